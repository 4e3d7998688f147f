"""What a training step of each method costs, as a multiple of the supervised baseline's.

`python -m benchmarks.steps STUDY RECIPE [--steps N]` takes steps of every method, on random images,
in turns with steps of the baseline, and writes benchmarks/steps-STUDY.md and the study's lines of
benchmarks/steps.csv, which the tables read. A ratio is of two medians
measured in one process; the machine should have nothing else to do.
"""

import argparse
from collections.abc import Callable

import torch

from benchmarks.timing import in_turns, markdown, quartiles, ratio
from pipeline.artifacts import ROOT, Paths, write_text
from pipeline.batch import Batch
from pipeline.config import Params
from pipeline.cost import PROGRESS, UNLABELED, num_classes, prepare, random_batch
from pipeline.methods.base import MethodBase, available, build, resolve, setting_of
from pipeline.params import load_params
from pipeline.runtime import Runtime, set_up
from pipeline.seeding import seed_global
from pipeline.typed import InputError
from stages.study import known

COLUMNS = ("study", "recipe", "method", "ratio")


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study")
    parser.add_argument("recipe")
    parser.add_argument("--steps", type=int, default=12)
    arguments = parser.parse_args()
    params = load_params(known()[arguments.study])
    runtime = set_up(params.train)
    names = [name for name in available() if name in params.methods]
    classes = classes_of(params, arguments.recipe)
    step_of = {name: stepper(name, params, arguments.recipe, classes, runtime) for name in names}
    rows, ratios = [], {"supervised": 1.0}
    for name, step in step_of.items():
        if name == "supervised":
            continue
        taken = in_turns({"mine": step, "baseline": step_of["supervised"]}, arguments.steps, warm=2)
        mine, baseline = taken.values()
        ratios[name] = ratio(mine, baseline)
        rows.append(
            [f"`{name}`", f"{ratios[name]:.2f}", milliseconds(mine), milliseconds(baseline)]
        )
        print(*rows[-1], flush=True)
    recipe = params.recipes[arguments.recipe]
    text = [
        f"# Cost of a step, study `{arguments.study}`, recipe `{arguments.recipe}`",
        f"`python -m benchmarks.steps {arguments.study} {arguments.recipe}`; "
        f"crops of {recipe.crop[0]} x {recipe.crop[1]}, {recipe.batch} labelled and {recipe.batch} "
        f"unlabelled a step, `{recipe.network.trunk}`, {classes} classes; {runtime.describe()}, "
        f"torch {torch.__version__}. Medians of {arguments.steps} steps, milliseconds; quartiles "
        "in brackets; steps of method and baseline in turns. Loading of data is not counted.",
        markdown(("method", "by supervised", "its step", "supervised step"), rows),
    ]
    write_text(ROOT / f"benchmarks/steps-{arguments.study}.md", "\n\n".join(text) + "\n")
    path = Paths(arguments.study).step_costs()
    former = path.read_text() if path.exists() else ",".join(COLUMNS) + "\n"
    write_text(path, with_study(former, arguments.study, arguments.recipe, ratios))


def milliseconds(taken: list[float]) -> str:
    """The median, and in brackets the quartiles, of seconds."""
    low, median, high = (f"{1000 * value:.0f}" for value in quartiles(taken))
    return f"{median} ({low} to {high})"


def with_study(table: str, study: str, recipe: str, ratios: dict[str, float]) -> str:
    """The CSV with these lines in place of the study's former ones; the other studies' stay."""
    head, *lines = table.splitlines()
    if head != ",".join(COLUMNS):
        raise InputError(f"benchmarks/steps.csv: columns {head}; expected {','.join(COLUMNS)}")
    others = [line for line in lines if not line.startswith(f"{study},")]
    mine = [f"{study},{recipe},{name},{ratio:.3f}" for name, ratio in ratios.items()]
    return "\n".join([head, *sorted([*others, *mine])]) + "\n"


def classes_of(params: Params, recipe: str) -> int:
    """How many the data have that are trained on by a recipe."""
    dataset = next(run.dataset for run in params.runs.values() if run.recipe == recipe)
    return num_classes(params, dataset)


def stepper(
    name: str, params: Params, recipe_name: str, classes: int, runtime: Runtime
) -> Callable[[], None]:
    """A function that takes one training step of a method, all of its parts at work."""
    recipe = params.recipes[recipe_name]
    seed_global(0, "build")
    config = resolve(name, params.methods.get(name, {}), key=f"methods.{name}")
    method = build(name, config, setting_of(recipe, classes, 0, UNLABELED))
    method.to(runtime.device, memory_format=runtime.memory_format).train()
    batch = random_batch(recipe.crop, recipe.batch, classes, method)
    return stepper_of(method, batch.to(runtime.device, runtime.memory_format), runtime)


def stepper_of(
    method: MethodBase, batch: Batch, runtime: Runtime, progress: float = PROGRESS
) -> Callable[[], None]:
    """The same of a method and a batch, at this share of training."""
    optimizer = torch.optim.AdamW(method.param_groups(1e-4), lr=1e-4, foreach=True)
    prepare(method, batch)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with runtime.autocast():
            terms = method.losses(batch, progress)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        loss.backward()
        method.after_backward(progress)
        optimizer.step()
        method.after_update(progress)
        loss.item()

    return step


if __name__ == "__main__":
    main()
