"""Writes the README's table of results from reports/: `python -m stages.readme`."""

import re
from typing import NamedTuple

from pipeline.artifacts import ROOT, Paths, write_text
from pipeline.command import run_command
from pipeline.report.results import Results, mean_and_deviation

README = ROOT / "README.md"
PLACE = re.compile(
    r"(<!-- results, written by python -m stages\.readme -->\n).*?(<!-- end of results -->)",
    re.DOTALL,
)
METHODS = {
    "supervised": "supervised",
    "mean_teacher": "mean teacher",
    "fixmatch": "FixMatch",
    "cps": "CPS",
    "unimatch": "UniMatch",
    "stpg": "STPG",
}


class Row(NamedTuple):
    """A split that methods are compared on."""

    title: str
    study: str
    split: str
    """Run names begin with it."""
    full: str
    """The run with all labels."""
    full_study: str
    one_seed: str | None = None
    """Study whose cells are taken where `study` has none."""


ROWS = (
    Row(
        "streets, drawn (32 of 256 labelled)",
        "mini",
        "cityscapes_8",
        "cityscapes_1",
        "mini",
        "mini_full",
    ),
    Row("VOC-like, drawn (80 of 640)", "mini_field", "blender_8", "blender_1", "mini"),
    Row("CamVid (46 of 367)", "camvid", "camvid_8", "camvid_1", "camvid"),
    Row("CamVid (92 of 367)", "camvid", "camvid_4", "camvid_1", "camvid"),
)


def cell(study: str, run: str) -> str:
    """Mean and deviation over the seeds of a run; empty if it was not measured."""
    seeds = Results(Paths(study)).seeds
    return mean_and_deviation(seeds.loc[seeds["run"] == run, "miou"])


def table() -> str:
    """In Markdown; mIoU in percent."""
    lines = [
        f"| | all labelled | {' | '.join(METHODS.values())} |",
        f"|---|{'---:|' * (1 + len(METHODS))}",
    ]
    for row in ROWS:
        cells = [cell(row.full_study, f"{row.full}_supervised")]
        for method in METHODS:
            run = f"{row.split}_{method}"
            cells.append(cell(row.study, run) or (row.one_seed and cell(row.one_seed, run)) or "")
        lines.append(f"| {row.title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def filled(text: str) -> str:
    """The README with the table as it is now."""
    assert PLACE.search(text), "README.md: its marks for the table are gone"
    return PLACE.sub(lambda match: match[1] + table() + match[2], text)


def main() -> None:
    """Writes the README."""
    write_text(README, filled(README.read_text()))


if __name__ == "__main__":
    run_command(main)
