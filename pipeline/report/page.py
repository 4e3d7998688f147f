"""One page with all tables and figures of a study, and what made each: HTML and Markdown."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from pipeline.artifacts import Paths
from pipeline.config import Params
from pipeline.report.markup import Html, Markdown, Markup
from pipeline.report.results import Results, mean_and_deviation
from pipeline.report.spec import FigureSpec, Note, Paper
from pipeline.report.tables import INTERVALS, MEASURED, PUBLISHED, Table, capitalized, fill
from pipeline.typed import InputError, reference

ARTICLE = "https://arxiv.org/abs/2409.12680"
SHOWS = {
    "selection": "Images of the last batch of training: pseudo-labels of Gen-Teacher, predictions "
    "of Pro-Student, and which pixels the selection keeps.",
    "confusion": "Pixels by the class that Pro-Student and that Gen-Teacher gives them, and the "
    "mismatch score of each class.",
    "tail": "IoU of the classes with the fewest labelled pixels.",
    "tsne": "Features of validation pixels in two dimensions (t-SNE), in the colours of their "
    "classes.",
    "sweep": "mIoU over the values of one parameter, measured and published.",
    "qualitative": "Validation images, what was predicted, and the truth.",
    "curves": "What was logged over the steps of training.",
    "gain": "Gain in IoU of each class over its share of the labelled pixels.",
    "calibration": "How often predictions are right, over their confidence.",
}
"""What each kind of figure shows, for a reader who cannot see it too."""
RUN_HEAD = (
    "run", "method", "split", "labelled", "seeds", "mIoU (%)", "minutes", "s a step", "GiB",
    "commit",
)  # fmt: skip
RUN_WORDS = (0, 1, 2, 9)
"""Which of these hold no numbers."""


@dataclass(frozen=True)
class Figure:
    """One figure as the page shows it."""

    title: str
    source: str
    """A sentence: which figure of the paper it is like, if any."""
    shows: str
    runs: dict[str, str]
    """By the name that the figure gives it."""
    png: bytes


@dataclass(frozen=True)
class Run:
    """What made one run, and what came of it."""

    method: str
    split: str
    labeled: int
    seeds: tuple[int, ...]
    miou: str
    commits: tuple[str, ...]
    devices: tuple[str, ...]
    versions: tuple[str, ...]
    minutes: float
    """Of one training, on average."""
    seconds_per_step: float
    peak_memory_gib: float
    """Of the training that took most."""


@dataclass(frozen=True)
class Page:
    """All that is told of a study; tables, figures and runs by their names."""

    study: str
    note: str
    tables: dict[str, Table]
    figures: dict[str, Figure]
    runs: dict[str, Run]


def collect(params: Params, paper: Paper, paths: Paths) -> Page:
    """The study's tables and figures in the order of paper.yaml, and its measured runs.

    An InputError names the file that is missing and the command that makes it.
    """
    results = Results(paths)
    for section in ("tables", "figures"):
        for key in getattr(params, section):
            reference(f"paper.yaml: {section}", key, getattr(paper, section))
    note = paper.notes.get(params.study, Note())
    tables = [key for key in paper.tables if key in params.tables]
    figures = [key for key in paper.figures if key in params.figures]
    return Page(
        study=params.study,
        note=note.note,
        tables={key: fill(paper, key, params.study, results) for key in tables},
        figures={key: figure_of(key, paper.figures[key], note, paths) for key in figures},
        runs={run: run_of(run, results) for run in results.metrics},
    )


def figure_of(key: str, spec: FigureSpec, note: Note, paths: Paths) -> Figure:
    """From paper.yaml and stage `figures`."""
    name = spec.source.removeprefix("as ")
    source = f"Like {name} of the paper" if name.startswith("Figure") else capitalized(name)
    png = made_by("figures", paths.figures() / f"{key}.png").read_bytes()
    return Figure(
        f"{spec.title}{note.title}", f"{source}.", SHOWS.get(spec.kind, spec.title), spec.runs, png
    )


def run_of(run: str, results: Results) -> Run:
    """From a run's metrics and the records of its trainings."""
    path = made_by(f"evaluate@{run}", results.paths.record(run))
    records = json.loads(path.read_text())
    versions = [
        ", ".join(f"{name} {version}" for name, version in sorted(record["versions"].items()))
        for record in records
    ]
    seeds = results.seeds[results.seeds["run"] == run]
    return Run(
        method=records[0]["method"],
        split=records[0]["split"]["name"],
        labeled=records[0]["split"]["labeled"],
        seeds=tuple(record["seed"] for record in records),
        miou=mean_and_deviation(seeds["miou"]),
        commits=tuple(dict.fromkeys(record["commit"] for record in records)),
        devices=tuple(dict.fromkeys(record["device"] for record in records)),
        versions=tuple(dict.fromkeys(versions)),
        minutes=mean(record["minutes"] for record in records),
        seconds_per_step=mean(record["seconds_per_step"] for record in records),
        peak_memory_gib=max(record["peak_memory_gib"] for record in records),
    )


def made_by(target: str, path: Path) -> Path:
    """The path, if the file is there."""
    if not path.is_file():
        raise InputError(f"{path}: missing; run `dvc repro {target}`")
    return path


def to_html(page: Page) -> str:
    """One file that needs no other; the same bytes of the same page."""
    return written(page, Html())


def to_markdown(page: Page) -> str:
    """The same for a repository's page; it shows the files of stage `figures`."""
    return written(page, Markdown())


def written(page: Page, to: Markup) -> str:
    """The page in one of its forms."""
    blocks = [*opening(page, to)]
    blocks += [to.heading(2, "Tables", "tables")] if page.tables else []
    for key in page.tables:
        blocks += table_blocks(key, page, to)
    blocks += [to.heading(2, "Figures", "figures")] if page.figures else []
    for key in page.figures:
        blocks += figure_blocks(key, page, to)
    return to.whole(f"STPG: study {page.study}", [*blocks, *runs_blocks(page, to)])


def opening(page: Page, to: Markup) -> Iterator[str]:
    """What the page is, how to read it, and what is on it."""
    published = any(
        head.endswith(PUBLISHED) for table in page.tables.values() for head in table.compared
    )
    yield to.paragraph(
        f"What this pipeline measured of {to.link('STPG', ARTICLE)} (Hong et al., Semi-Supervised "
        "Semantic Segmentation with Professional and General Training) and of the methods that it "
        f"is compared with{', beside what was published' if published else ''}."
    )
    if page.note:
        yield to.note(to.text(page.note))
    yield to.heading(2, "How to read it", "how-to-read-it")
    quoted = [
        "Published: of the real data set, at the paper's scale. A cell is empty where there is "
        "no such run, or nothing was published."
    ]
    yield to.bullets(
        [
            to.text(MEASURED),
            *(quoted if published else ["A cell is empty where there is no such run."]),
            to.text(INTERVALS),
            "Pictures, features and curves are of a run's first seed.",
            f"Files are named as they lie in {to.code(f'reports/{page.study}/')}.",
            f"{to.code('dvc repro tables')} makes the tables, {to.code('dvc repro figures')} the "
            f"figures; {to.code('dvc repro train@RUN')} trains a run, "
            f"{to.code('dvc repro evaluate@RUN')} scores it too. The name of a run leads to what "
            "made it.",
        ]
    )
    yield to.heading(2, "Contents", "contents")
    titles = {f"table-{key}": f"Table: {table.title}" for key, table in page.tables.items()}
    titles |= {f"figure-{key}": f"Figure: {figure.title}" for key, figure in page.figures.items()}
    titles["runs"] = "Runs, and what made them"
    yield to.bullets(to.link(to.text(title), f"#{name}") for name, title in titles.items())


def table_blocks(key: str, page: Page, to: Markup) -> Iterator[str]:
    """One table, and what stands under it."""
    table = page.tables[key]
    yield to.heading(3, table.title, f"table-{key}")
    yield to.paragraph(to.text(table.about))
    yield to.frame(table.compared, f"{table.title}: mIoU (%)")
    if len(table.differences):
        yield to.frame(table.differences, f"{table.title}: differences")
    if len(table.classes):
        label = "IoU of each class (%)"
        yield to.folded(label, to.frame(table.classes, f"{table.title}: {label}"))
    runs = f" Runs: {run_links(table.runs, page, to)}." if table.runs else ""
    files = " ".join(to.file(f"tables/{key}.{suffix}") for suffix in ("md", "csv", "tex"))
    yield to.paragraph(f"Made by {to.code('dvc repro tables')}: {files}.{runs}")


def figure_blocks(key: str, page: Page, to: Markup) -> Iterator[str]:
    """One figure with its caption."""
    figure = page.figures[key]
    yield to.heading(3, figure.title, f"figure-{key}")
    runs = [f"{to.text(name)} ({run_links([run], page, to)})" for name, run in figure.runs.items()]
    files = " ".join(to.file(f"figures/{key}.{suffix}") for suffix in ("png", "pdf"))
    caption = (
        f"{to.text(f'{figure.shows} {figure.source}')} Runs: {', '.join(runs)}. Made by "
        f"{to.code('dvc repro figures')}: {files}"
    )
    alt = f"{figure.title}. {figure.shows} Of {', '.join(figure.runs)}."
    yield to.figure(f"figures/{key}.png", figure.png, alt, caption)


def runs_blocks(page: Page, to: Markup) -> Iterator[str]:
    """What made each run: a table, and the versions and commits with the runs that used them."""
    yield to.heading(2, "Runs, and what made them", "runs")
    if not page.runs:
        yield to.paragraph("Nothing is measured yet.")
        return
    number = sum(len(run.seeds) for run in page.runs.values())
    hours = sum(run.minutes * len(run.seeds) for run in page.runs.values()) / 60
    yield to.paragraph(
        f"{number} trainings, {hours:.1f} hours in all. Minutes and seconds a step: of one "
        "training, mean over seeds. GiB: the most memory that one took."
    )
    yield to.table(RUN_HEAD, [run_row(name, page, to) for name in page.runs], "Runs", RUN_WORDS)
    for part, word in (("versions", "with"), ("devices", "on")):
        users = users_of({name: getattr(run, part) for name, run in page.runs.items()})
        if len(users) == 1:
            yield to.paragraph(f"All {word} {to.text(*users)}.")
        else:
            yield to.paragraph(f"Their {part} differ:")
            yield to.bullets(
                f"{to.text(x)}: {run_links(runs, page, to)}" for x, runs in users.items()
            )
    commits = users_of({name: run.commits for name, run in page.runs.items()})
    dirty = " (-dirty: with changes that are in none)" if "-dirty" in "".join(commits) else ""
    yield to.paragraph(f"Commits of the code that trained them{dirty}:")
    yield to.bullets(
        f"{to.anchor(f'commit-{x}')}{to.code(x)}: {run_links(runs, page, to)}"
        for x, runs in commits.items()
    )


def run_row(name: str, page: Page, to: Markup) -> list[str]:
    """A run's line in the table of runs."""
    run = page.runs[name]
    return [
        to.anchor(f"run-{name}") + to.code(name),
        to.text(run.method),
        to.text(run.split),
        str(run.labeled),
        ", ".join(map(str, run.seeds)),
        run.miou,
        f"{run.minutes:.1f}",
        f"{run.seconds_per_step:.3f}",
        f"{run.peak_memory_gib:.1f}",
        ", ".join(to.link(to.code(commit), f"#commit-{commit}") for commit in run.commits),
    ]


def users_of(used: dict[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """From what each run used to the runs that used it, sorted."""
    values = sorted({value for values in used.values() for value in values})
    return {value: [run for run, values in used.items() if value in values] for value in values}


def run_links(runs: Iterable[str], page: Page, to: Markup) -> str:
    """Names of runs, each leading to what made it, if it is measured."""
    return ", ".join(
        to.link(to.code(run), f"#run-{run}") if run in page.runs else to.code(run) for run in runs
    )
