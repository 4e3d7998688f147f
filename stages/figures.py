"""Stage `figures`: every figure of the study, as PNG and as PDF."""

from dataclasses import replace

from pipeline.artifacts import ROOT, Paths, replacing
from pipeline.command import run_stage
from pipeline.params import load_params
from pipeline.report.figures import draw
from pipeline.report.results import Results
from pipeline.report.spec import Note, load_paper
from pipeline.typed import reference


def main() -> None:
    """Writes reports/<study>/figures/."""
    params = load_params()
    paths, paper = Paths(params.study), load_paper(ROOT / "paper.yaml")
    results, note = Results(paths), paper.notes.get(params.study, Note())
    with replacing(paths.figures()) as out:
        for key in params.figures:
            reference("paper.yaml: figures", key, paper.figures)
            spec = paper.figures[key]
            draw(replace(spec, title=f"{spec.title}{note.title}"), results, out / key)


if __name__ == "__main__":
    run_stage(main)
