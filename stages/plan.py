"""What a study will cost, before it starts: `python -m stages.plan [STUDY] [--device NAME]`."""

import argparse
import os
import sys

from tqdm import tqdm

from pipeline.command import run_command
from pipeline.config import RecipeConfig
from pipeline.cost import DEVICES, Cost, cost_of, kinds
from pipeline.progress import progress
from pipeline.runtime import set_up
from pipeline.typed import reference
from stages.study import active, known, load

GIGA, MEGA = 1e9, 1e6
HEAD = (
    f"{'hours each':>10} {'trainings':>9} {'s/step':>8} {'GFLOP':>9} {'GiB':>6} {'Mparam':>7}  runs"
)


def main() -> None:
    """Prints a line for each kind of run, and what all trainings take."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", nargs="?", help="by default the one in place")
    parser.add_argument("--device", choices=("cpu", *DEVICES), default="cpu")
    arguments = parser.parse_args()
    name = arguments.study or active()
    reference("studies", name, known())
    params, device = load(known()[name]), DEVICES.get(arguments.device)
    os.environ["STPG_DEVICE"] = "cpu"  # a step is taken here, whatever the plan is for
    runtime = set_up(params.train)
    print(f"study {name} on {arguments.device}, one process; a step, and one training:")
    print(HEAD, flush=True)
    hours, most = 0.0, 0.0
    for keys in progress(list(kinds(params).values()), name, unit="kind", disable=None):
        cost = cost_of(keys[0], params, runtime, device)
        recipe = params.recipes[params.runs[keys[0]].recipe]
        trainings = sum(len(params.runs[key].seeds) for key in keys)
        tqdm.write(line(keys, trainings, cost, recipe))
        sys.stdout.flush()
        hours += trainings * cost.seconds * recipe.steps / 3600
        most = max(most, cost.gib)
    number = sum(len(run.seeds) for run in params.runs.values())
    print(f"{number} trainings: {hours:,.1f} hours, at most {most:.1f} GiB of tensors")
    if device is not None and most > device.memory:
        print(
            f"{most:.1f} GiB are more than the {device.memory:g} of {arguments.device}: lower "
            "recipes.*.batch or crop, raise recipes.*.accumulate, or set "
            "runtime.activation_checkpointing (what that saves is not counted here)"
        )


def line(keys: list[str], trainings: int, cost: Cost, recipe: RecipeConfig) -> str:
    """Of the runs that cost the same."""
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return (
        f"{cost.seconds * recipe.steps / 3600:10.2f} {trainings:9d} {cost.seconds:8.3f} "
        f"{cost.flops / GIGA:9,.0f} {cost.gib:6.1f} {cost.trained / MEGA:7.1f}  {keys[0]}{more}"
    )


if __name__ == "__main__":
    run_command(main, OSError)
