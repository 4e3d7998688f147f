import shutil
import subprocess
import sys

import pytest
from dvc.repo import Repo
from dvc.utils.serialize import dumps_yaml

from pipeline.artifacts import ROOT, write_json
from pipeline.check.__main__ import findings, main
from pipeline.fingerprint import all_fingerprints
from tests.check.example import PARAMS

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")

DVC_YAML = """\
stages:
  fingerprint:
    cmd: python -m stages.fingerprint
    deps: [stages]
    outs: [{fingerprints: {cache: false}}]
  split:
    foreach: ${splits}
    do:
      cmd: python -m stages.split
      deps: [fingerprints/split.json]
      params: ["splits.${key}"]
      outs: [{"data/splits/${study}/${key}.json": {cache: false}}]
  train:
    foreach: ${runs}
    do:
      cmd: python -m stages.train
      deps: ["fingerprints/train-${item.method}.json", "data/splits/${study}/${item.split}.json"]
      params: ["runs.${key}"]
      outs: ["runs/${study}/${key}"]
  tables:
    cmd: python -m stages.tables
    deps: [fingerprints/tables.json, "data/splits/${study}"]
    outs: [{"reports/${study}": {cache: false}}]
"""
PAPER = {
    "tables": {
        "first": {
            "title": "First",
            "source": "Table 1",
            "columns": ["1/2"],
            "rows": [{"name": "Mix", "published": [50.0], "runs": ["one"]}],
        }
    }
}
FILES = {
    "dvc.yaml": DVC_YAML,
    "params.yaml": dumps_yaml(PARAMS),
    "studies/waiting.yaml": dumps_yaml(PARAMS | {"study": "waiting"}),
    "paper.yaml": dumps_yaml(PAPER),
    ".gitignore": "/runs/\n",
    "stages/split.py": "import pipeline.methods.mix\n",
    "pipeline/methods/mix.py": "RATE = 1\n",
    "data/splits/tiny/half.json": "{}",
    "runs/tiny/one/model.pt": "weights",
    "reports/tiny/summary.json": "{}",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small repository in which everything is as the pipeline would make it."""
    root = tmp_path_factory.mktemp("made")
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name, modules in all_fingerprints(root).items():
        write_json(root / "fingerprints" / f"{name}.json", modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("site")))
        patch.chdir(root)
        with Repo.init(str(root), no_scm=True) as repo:
            repo.commit(force=True)
        yield root


@pytest.fixture
def root(made, tmp_path):
    return shutil.copytree(made, tmp_path / "root")


def change(root, name, old, new):
    path = root / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def run(monkeypatch, root, *arguments):
    """The exit code of the command."""
    monkeypatch.setattr(sys, "argv", ["check", *arguments])
    with pytest.raises(SystemExit) as exit:
        main(root)
    return int(exit.value.code)


def test_a_repository_without_findings_is_ok(root, monkeypatch, capsys):
    assert run(monkeypatch, root) == 0
    assert capsys.readouterr().out == "ok: study tiny\n"


def test_data_models_and_cache_are_not_needed(root):
    shutil.rmtree(root / "runs")
    shutil.rmtree(root / ".dvc/cache")
    assert list(findings(root)) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("params.yaml", "method: mix", "method: max", ["params.yaml: runs.one.method: no 'max'"]),
        (
            "studies/waiting.yaml",
            "steps: 1",
            "steps: 0",
            ["waiting.yaml: recipes.short.steps: 0; expected at least 1"],
        ),
        ("studies/waiting.yaml", "train: {}", "train: { }", ["waiting.yaml: line 28: found "]),
        ("paper.yaml", "tables:", "table:", ["paper.yaml: table: unknown; did you mean"]),
        ("paper.yaml", "- 50.0", "- high", ["paper.yaml: tables.first.rows[0].published[0]: "]),
        ("dvc.yaml", "${runs}", "${rums}", ["dvc.yaml: DVC cannot read the pipeline: "]),
        ("params.yaml", "- 0", "- 1", ["train@one: stale; run `dvc repro`, then commit dvc.lock"]),
        (
            "pipeline/methods/mix.py",
            "1",
            "2",
            [
                "fingerprints/split.json: not of the present code; run `dvc repro`",
                "fingerprints/train-mix.json: not of the present code; run `dvc repro`",
            ],
        ),
        ("stages/split.py", "import", "# Why\nimport", ["fingerprint: stale; "]),
        ("reports/tiny/summary.json", "{}", "[]", ["tables: stale; "]),
    ],
)
def test_a_change_is_found(root, name, old, new, expected):
    change(root, name, old, new)
    found = list(findings(root))
    assert len(found) == len(expected)
    for message, start in zip(found, expected, strict=True):
        assert message.startswith(start)


def test_a_result_that_is_not_in_git_is_found(root):
    (root / "data/splits/tiny/half.json").unlink()
    message = "data/splits/tiny/half.json: missing; run `dvc repro split@half`, then commit it"
    assert message in list(findings(root))


def test_orphans_are_found_and_pruned(root, monkeypatch):
    files = ["fingerprints/old.json", "data/splits/tiny/third.json", "data/splits/tiny/a/b.json"]
    for file in files:
        (root / file).parent.mkdir(exist_ok=True)
        (root / file).write_text("{}")
    (root / "reports/waiting").mkdir()
    (root / "reports/waiting/kept.json").write_text("{}")
    change(root, "dvc.lock", "  train@one:", "  train@gone:")
    removes = "`python -m pipeline.check --prune` removes it"
    wanted = {f"{file}: no stage makes it; {removes}" for file in files}
    wanted.add(f"dvc.lock: train@gone: no such stage in dvc.yaml; {removes}")
    assert wanted <= set(findings(root))
    assert run(monkeypatch, root, "--prune") == 1
    assert not any(removes in finding for finding in findings(root))
    assert (root / "reports/waiting/kept.json").exists()
    assert "train@gone" not in (root / "dvc.lock").read_text()


def test_a_repository_before_its_first_run_is_stale_and_nothing_else(root):
    (root / "dvc.lock").unlink()
    found = list(findings(root))
    assert [finding.split(":")[0] for finding in found] == [
        "fingerprint", "split@half", "tables", "train@one",
    ]  # fmt: skip
    assert all("stale" in finding for finding in found)


def test_the_check_does_not_import_torch():
    code = "import pipeline.check.__main__, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
