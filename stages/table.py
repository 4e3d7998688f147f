"""Stage `table`: one table, measured beside published, as Markdown and CSV."""

from pipeline.artifacts import ROOT, Paths, write_text
from pipeline.command import run_stage
from pipeline.config import entry, load_params, reference
from pipeline.report.results import read_classes, read_seeds
from pipeline.report.tables import Note, compare, load_paper, per_class, to_markdown


def main(key: str) -> None:
    """Writes reports/<study>/tables/<key>.md and .csv."""
    params = load_params()
    paths = Paths(params.study)
    paper = load_paper(ROOT / "paper.yaml")
    group = entry(params, "tables", key).group
    reference("paper.yaml: tables", key, paper.tables)
    spec, study = paper.tables[key], paper.notes.get(params.study, Note())
    folder = paths.metrics(group, "").parent
    seeds, classes = read_seeds(folder), read_classes(folder)
    table = compare(spec, seeds)
    write_text(paths.tables() / f"{key}.csv", table.to_csv(index=False))
    measured = ", ".join(
        f"{run}: {len(rows)}, {rows['family'].iloc[0]} split" for run, rows in seeds.groupby("run")
    )
    text = [
        f"# {spec.title}{study.title}: mIoU (%), study `{params.study}`",
        study.note,
        f"Published: {spec.source}. Measured: mean ± sample standard deviation over seeds, last "
        "step of training, validation images; in brackets the images with labels. Seeds of "
        f"{measured}.",
        to_markdown(table),
        "## IoU of each class (%)",
        to_markdown(per_class(spec, seeds, classes)),
    ]
    write_text(paths.tables() / f"{key}.md", "\n\n".join(filter(None, text)) + "\n")


if __name__ == "__main__":
    run_stage(main)
