"""Stage `table`: one table, measured beside published, as Markdown and CSV."""

import sys

from pipeline.artifacts import ROOT, Paths
from pipeline.config import load_params, read_yaml
from pipeline.report.results import read_classes, read_seeds
from pipeline.report.tables import TableSpec, compare, per_class, to_markdown
from pipeline.typed import from_mapping


def main(key: str) -> None:
    """Writes reports/<study>/tables/<key>.md and .csv."""
    params = load_params()
    paths = Paths(params.study)
    described = read_yaml(ROOT / "paper.yaml")
    spec = from_mapping(TableSpec, described["tables"][key], f"paper.yaml: tables.{key}")
    folder = paths.metrics(params.tables[key].group, "").parent
    seeds, classes = read_seeds(folder), read_classes(folder)
    table = compare(spec, seeds)
    paths.tables().mkdir(parents=True, exist_ok=True)
    table.to_csv(paths.tables() / f"{key}.csv", index=False)
    counts = seeds.groupby("run")["seed"].count()
    measured = ", ".join(f"{run} {n}" for run, n in counts.items())
    text = [
        f"# {spec.title}: mIoU (%), study `{params.study}`",
        described["notes"].get(params.study, ""),
        f"Published: {spec.source}. Measured: mean ± sample standard deviation over seeds, last "
        f"step of training, validation images ({measured}).",
        to_markdown(table),
        "## IoU of each class (%)",
        to_markdown(per_class(spec, seeds, classes)),
    ]
    (paths.tables() / f"{key}.md").write_text("\n\n".join(filter(None, text)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
