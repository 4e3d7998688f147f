import sys

import pytest
import yaml

from pipeline.artifacts import ROOT
from pipeline.typed import ConfigError
from stages import study
from stages.study import active, known, use


@pytest.fixture
def root(tmp_path):
    """Study `mini` in place; `paper` waits with its lock, `smoke` has none yet."""
    (tmp_path / "studies").mkdir()
    for name, text in {
        "params.yaml": "study: mini\n",
        "dvc.lock": "lock of mini",
        "studies/paper.yaml": "study: paper\n",
        "studies/paper.lock": "lock of paper",
        "studies/smoke.yaml": "study: smoke\n",
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def content(root):
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_text() for path in files}


def test_the_pair_moves_and_comes_back(root):
    before = content(root)
    use("paper", root)
    assert content(root) == {
        "params.yaml": "study: paper\n",
        "dvc.lock": "lock of paper",
        "studies/mini.yaml": "study: mini\n",
        "studies/mini.lock": "lock of mini",
        "studies/smoke.yaml": "study: smoke\n",
    }
    use("mini", root)
    assert content(root) == before


def test_a_study_without_a_lock_leaves_none_in_place(root):
    use("smoke", root)
    assert not (root / "dvc.lock").exists()
    (root / "dvc.lock").write_text("lock of smoke")
    use("paper", root)
    assert (root / "studies/smoke.lock").read_text() == "lock of smoke"


@pytest.mark.parametrize("path", [["paper", "smoke", "mini"], ["smoke", "smoke", "paper", "mini"]])
def test_nothing_is_lost_on_the_way(root, path):
    before = sorted(content(root).values())
    for name in path:
        use(name, root)
        assert active(root) == name
        assert sorted(content(root).values()) == before


def test_all_studies_are_known_wherever_they_are(root):
    places = {name: str(path.relative_to(root)) for name, path in known(root).items()}
    want = {"mini": "params.yaml", "paper": "studies/paper.yaml", "smoke": "studies/smoke.yaml"}
    assert places == want


def test_a_fresh_folder_has_no_study_and_takes_one(root):
    (root / "params.yaml").unlink()
    (root / "dvc.lock").unlink()
    assert active(root) is None
    use("paper", root)
    assert active(root) == "paper"
    assert (root / "dvc.lock").read_text() == "lock of paper"


@pytest.mark.parametrize(
    ("files", "name", "message"),
    [
        ({}, "papre", r"^study: no 'papre'; did you mean 'paper'\? known: mini, paper, smoke$"),
        (
            {"studies/mini.yaml": "study: mini\n"},
            "paper",
            r"^studies/mini\.yaml: exists, but mini is in place; rename or remove it$",
        ),
        (
            {"studies/mini.lock": "old"},
            "paper",
            r"^studies/mini\.lock: exists, but mini is in place; rename or remove it$",
        ),
        (
            {"studies/copy.yaml": "study: mini\n"},
            "copy",
            r"^studies/copy\.yaml: study: mini; expected copy, as the file$",
        ),
        ({"params.yaml": "runs: {}\n"}, "paper", r"^params\.yaml: study: missing; expected"),
        ({"params.yaml": ""}, "paper", r"^params\.yaml: study: missing; expected"),
    ],
)
def test_a_switch_that_would_lose_something_moves_nothing(root, files, name, message):
    for path, text in files.items():
        (root / path).write_text(text)
    before = content(root)
    with pytest.raises(ConfigError, match=message):
        use(name, root)
    assert content(root) == before


def test_the_command_asks_which_study(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["study", "use"])
    with pytest.raises(SystemExit, match="2"):
        study.main()
    assert "use which study? known:" in capsys.readouterr().err


def test_the_command_shows_the_study_in_place(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["study"])
    study.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("*")] == [active()]


@pytest.mark.parametrize("name", sorted(known()))
def test_every_study_of_the_repository_is_whole(name):
    assert study.load(known()[name]).study == name


def test_a_broken_study_is_shown_as_such_and_not_put_in_place(monkeypatch, tmp_path, capsys):
    broken = tmp_path / "bad.yaml"
    broken.write_text("study: bad\nruns: 3\n")
    monkeypatch.setattr(study, "known", lambda: {"bad": broken})
    monkeypatch.setattr(study, "use", lambda name: pytest.fail("moved"))
    monkeypatch.setattr(sys, "argv", ["study", "use", "bad"])
    with pytest.raises(ConfigError):
        study.main()
    monkeypatch.setattr(sys, "argv", ["study"])
    study.main()
    assert "bad broken: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        (
            "methods",
            {"unimach": {}},
            "methods.unimach: no method 'unimach'; did you mean 'unimatch'?",
        ),
        (
            "methods",
            {"stpg": {"lambda_v": 1}},
            "methods.stpg.lambda_v: unknown; did you mean 'lambda_u'?",
        ),
    ],
)
def test_a_study_with_a_wrong_method_is_broken(tmp_path, section, value, message):
    content = yaml.safe_load((ROOT / "studies/smoke.yaml").read_text())
    content[section] |= value
    path = tmp_path / "typo.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError) as error:
        study.load(path)
    assert str(error.value).startswith(f"typo.yaml: {message}")


def test_showing_a_broken_study_in_place_fails(monkeypatch, tmp_path, capsys):
    broken = tmp_path / "params.yaml"
    broken.write_text("study: bad\nruns: 3\n")
    monkeypatch.setattr(study, "known", lambda: {"bad": broken})
    monkeypatch.setattr(sys, "argv", ["study"])
    with pytest.raises(ConfigError, match=r"^the study in place is broken: params\.yaml: "):
        study.main()
    assert "* bad broken: " in capsys.readouterr().out
