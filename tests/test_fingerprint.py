import json
import shutil

import pytest
import yaml

from pipeline.artifacts import ROOT
from pipeline.fingerprint import SPEAKING, all_fingerprints, fingerprint
from stages import fingerprint as stage

PROJECT = {
    "app/__init__.py": "",
    "app/main.py": '''"""Runs."""
import os
import app.plain
from app import member
from app.names import VALUE


def main(x: int) -> int:
    """Of x."""
    from app import lazy

    return VALUE + x  # a sum
''',
    "app/plain.py": "import json\n",
    "app/member.py": "from app.deep.inner import thing\n",
    "app/names.py": "VALUE = 1\n",
    "app/lazy.py": "import app.main\n",
    "app/unused.py": "VALUE = 2\n",
    "app/deep/__init__.py": "from app.deep.extra import more\n",
    "app/deep/inner.py": "thing = 1\n",
    "app/deep/extra.py": "more = 1\n",
}


@pytest.fixture
def root(tmp_path):
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def change(root, name, old, new):
    path = root / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_what_only_speaks_is_in_no_fingerprint():
    for name, modules in all_fingerprints().items():
        assert not set(SPEAKING) & set(modules), name
        assert "pipeline.artifacts" in modules
    assert "stages.train" in all_fingerprints()["train-stpg"]


def test_every_reached_module_is_there_and_no_other(root):
    reached = fingerprint(["app.main"], root)
    assert list(reached) == [
        "app",
        "app.deep",
        "app.deep.extra",
        "app.deep.inner",
        "app.lazy",
        "app.main",
        "app.member",
        "app.names",
        "app.plain",
    ]
    assert list(fingerprint(["app.names"], root)) == ["app", "app.names"]
    assert fingerprint(["os", "app.nowhere"], root) == {}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a sum", "# the sum"),
        ('"""Of x."""', '"""Of another x."""'),
        ('    """Of x."""\n', ""),
        ('"""Runs."""', ""),
        ("VALUE + x", "(\n        VALUE\n        + x\n    )"),
        ("\n\n\ndef", "\ndef"),
    ],
    ids=["comment", "docstring", "no docstring", "module's docstring", "layout", "blank lines"],
)
def test_words_and_layout_change_nothing(root, old, new):
    before = fingerprint(["app.main"], root)
    change(root, "app/main.py", old, new)
    assert fingerprint(["app.main"], root) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("VALUE + x", "VALUE - x"),
        ("VALUE + x", "x + VALUE"),
        ("main(x", "main(y"),
        ("x: int", "x: float"),
        ("x: int", "x: int = 1"),
        ("import os", "import sys"),
    ],
)
def test_code_changes_its_module_alone(root, old, new):
    before = fingerprint(["app.main"], root)
    change(root, "app/main.py", old, new)
    after = fingerprint(["app.main"], root)
    assert [name for name in after if after[name] != before[name]] == ["app.main"]


def test_a_module_that_does_not_parse_is_named(root):
    (root / "app/lazy.py").write_text("def (:\n")
    with pytest.raises(SyntaxError, match=r"lazy\.py"):
        fingerprint(["app.main"], root)


@pytest.fixture(scope="module")
def fingerprints(tmp_path_factory):
    """What the stage writes of this repository: file name -> modules."""
    root = tmp_path_factory.mktemp("root")
    for package in ("pipeline", "stages"):
        (root / package).symlink_to(ROOT / package)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "ROOT", root)
        stage.main()
    files = (root / "fingerprints").glob("*.json")
    return {path.stem: set(json.loads(path.read_text())) for path in files}


def test_a_training_depends_on_its_own_method_alone(fingerprints):
    trainings = [name for name in fingerprints if name.startswith("train-")]
    assert {"train-stpg", "train-supervised"} <= set(trainings)
    for name in trainings:
        method = f"pipeline.methods.{name.removeprefix('train-')}"
        found = {module for module in fingerprints[name] if "pipeline.methods." in module}
        assert found == {method, "pipeline.methods.base"}
        assert {"pipeline.trainer", "pipeline.loader", "stages.train"} <= fingerprints[name]


def test_a_training_depends_on_the_losses_that_it_uses(fingerprints):
    assert "pipeline.losses.mismatch" in fingerprints["train-stpg"]
    assert "pipeline.losses.mismatch" not in fingerprints["train-supervised"]


@pytest.mark.parametrize(
    ("kind", "never"),
    [
        ("train-", {"pipeline.data.sources.voc", "pipeline.data.mini", "pipeline.report.tables"}),
        ("prepare-", {"pipeline.trainer", "pipeline.models.deeplab"}),
        ("table", {"pipeline.trainer", "pipeline.models.deeplab", "pipeline.data.base"}),
    ],
)
def test_a_stage_does_not_depend_on_what_other_stages_do(fingerprints, kind, never):
    of_kind = {name: found for name, found in fingerprints.items() if name.startswith(kind)}
    assert of_kind
    for found in of_kind.values():
        assert not found & never


def test_a_new_source_or_method_changes_no_fingerprint_that_was_there(tmp_path):
    for package in ("pipeline", "stages"):
        shutil.copytree(ROOT / package, tmp_path / package)
    before = all_fingerprints(tmp_path)
    for folder in ("data/sources", "methods"):
        (tmp_path / f"pipeline/{folder}/added.py").write_text("VALUE = 1\n")
    after = all_fingerprints(tmp_path)
    assert set(after) - set(before) == {"download-added", "prepare-added", "train-added"}
    assert {name: after[name] for name in before} == before


def test_every_fingerprint_that_dvc_names_is_written(fingerprints):
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    deps = [dep for s in stages.values() for dep in s.get("do", s).get("deps", [])]
    named = [dep.removeprefix("fingerprints/") for dep in deps if dep.startswith("fingerprints/")]
    assert named
    for name in named:
        stem, _, chosen = name.removesuffix(".json").partition("-${")
        if chosen:
            assert any(found.startswith(f"{stem}-") for found in fingerprints), name
        else:
            assert stem in fingerprints, name
