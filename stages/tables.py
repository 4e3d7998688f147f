"""Stage `tables`: every table, measured beside published, and the summary for `dvc metrics`."""

from pipeline.artifacts import ROOT, Paths, replacing, write_json, write_text
from pipeline.command import run_stage
from pipeline.params import load_params
from pipeline.report.results import Results
from pipeline.report.spec import load_paper
from pipeline.report.tables import render
from pipeline.typed import reference


def main() -> None:
    """Writes reports/<study>/tables/ and summary.json: run -> mean mIoU over seeds, in percent."""
    params = load_params()
    paths, paper = Paths(params.study), load_paper(ROOT / "paper.yaml")
    results = Results(paths)
    with replacing(paths.tables()) as out:
        for key in params.tables:
            reference("paper.yaml: tables", key, paper.tables)
            for suffix, text in render(paper, key, params.study, results).items():
                write_text(out / f"{key}.{suffix}", text)
        write_text(out / "all_runs.csv", results.overview().to_csv(index=False))
        write_text(out / "all_classes.csv", results.classes_overview().to_csv(index=False))
    means = 100 * results.seeds.groupby("run")["miou"].mean()
    write_json(paths.summary(), {run: round(mean, 2) for run, mean in means.items()})


if __name__ == "__main__":
    run_stage(main)
