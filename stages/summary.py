"""Stage `summary`: every run's mIoU in one file, for `dvc metrics` and `dvc exp show`."""

from pipeline.artifacts import Paths, write_json
from pipeline.command import run_stage
from pipeline.config import load_params
from pipeline.report.results import read_seeds


def main() -> None:
    """Writes reports/<study>/summary.json: run -> mean mIoU over seeds, in percent."""
    paths = Paths(load_params().study)
    seeds = read_seeds(paths.metrics("", "").parent)
    means = 100 * seeds.groupby("run")["miou"].mean()
    write_json(paths.summary(), {run: round(mean, 2) for run, mean in means.items()})


if __name__ == "__main__":
    run_stage(main)
