from pathlib import Path

from pipeline.check import stages
from pipeline.check.stages import Project, Stage


def project(*found, root=Path(), **parts):
    return Project(root=root, study="tiny", stages=found, **parts)


def test_a_stage_depends_on_the_fingerprint_of_its_own_script():
    fingerprints = {"split": {}, "train-mix": {}, "table": {}}
    good = [
        Stage("fingerprint", "python -m stages.fingerprint", ("pipeline", "stages")),
        Stage("split@half", "python -m stages.split", ("fingerprints/split.json",)),
        Stage("train@one", "python -m stages.train", ("a", "fingerprints/train-mix.json")),
    ]
    bad = [
        Stage("train@two", "python -m stages.train", ("fingerprints/train-other.json",)),
        Stage("summary", "python -m stages.summary", ("fingerprints/table.json",)),
        Stage("figure", "python figure.py"),
        Stage("split@few", "python -m stages.split few", ("fingerprints/split.json",)),
    ]
    assert list(stages.unfingerprinted(project(*good, *bad, fingerprints=fingerprints))) == [
        "train@two: depends on no fingerprint of stages/train.py; "
        "add fingerprints/train.json or fingerprints/train-<component>.json to deps",
        "summary: depends on no fingerprint of stages/summary.py; "
        "add fingerprints/summary.json or fingerprints/summary-<component>.json to deps",
        "figure: cmd: found 'python figure.py'; expected `python -m stages.<name>`, which takes "
        "its key from $DVC_STAGE: what a name is made of shall reach no shell",
        "split@few: cmd: found 'python -m stages.split few'; expected `python -m stages.<name>`, "
        "which takes its key from $DVC_STAGE: what a name is made of shall reach no shell",
    ]


def test_a_stage_that_renders_reports_reads_what_git_holds():
    metrics = "reports/tiny/metrics/main"
    here = project(
        Stage("evaluate@one", "", ("runs/tiny/one", "data/prepared/shapes")),
        Stage("table@first", "", (metrics, "params.yaml", "data/splits/tiny/half.json")),
        Stage("figure@samples", "", (metrics, "data/prepared/shapes")),
        gitignore="/runs/\n/data/prepared/\n",
    )
    assert list(stages.not_renderable(here)) == [
        "figure@samples: reads reports/ and data/prepared/shapes, which git does not hold; "
        "let the stage that makes it write what is needed below reports/"
    ]


def test_gitignore_lists_bulk_and_no_result():
    one = Stage("a@1", "", kept=("reports/tiny/1.json",), bulk=("runs/tiny/1", "data/raw/x"))
    two = Stage("a@2", "", kept=("reports/tiny/2.json",), bulk=("runs/tiny/2", "data/raw/y"))
    assert list(stages.wrongly_ignored(project(one, two, gitignore="/runs/\n/data/raw/\n"))) == []
    wrong = "/runs/other/\n/data/raw/\nreports/*/2.json\n"
    assert list(stages.wrongly_ignored(project(one, two, gitignore=wrong))) == [
        ".gitignore: lacks /runs/tiny/; add it, or DVC writes a .gitignore of its own",
        ".gitignore: lists reports/tiny/2.json, a result of a@2 that git should hold; free it",
    ]
