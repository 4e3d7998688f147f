"""How much a step and an evaluation take beside their networks, and whether the loader keeps up.

`python -m benchmarks.speed [--only PART,...]` writes benchmarks/speed.md. Parts: `step` (STPG's
step by the bare passes of its networks), `paper` (the same at the paper's size), `bank` (size of
the memory bank), `pass` (labelled and mixed images in one pass or two), `loader` and `evaluation`
(of each study whose data are prepared here), `large` (the loader at the paper's size), `whole`
(evaluation at the paper's size). A part that is not asked for keeps its former section. Ratios are
of medians measured in turns; the machine should have nothing else to do.
"""

import argparse
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from statistics import mean, median

import torch
from torch import nn

from benchmarks.steps import classes_of, stepper_of
from benchmarks.timing import in_turns, machine, markdown, paired, ratios, seconds
from pipeline.artifacts import ROOT, Paths, write_text
from pipeline.batch import Batch
from pipeline.config import DatasetConfig, Draw, EvaluationConfig, Params, RecipeConfig
from pipeline.cost import DEVICES, cost_of, random_batch
from pipeline.data.base import Prepared
from pipeline.data.mini import draw
from pipeline.data.prepare import prepare
from pipeline.data.sources import source_of
from pipeline.data.splits import Split, read_split
from pipeline.evaluate import evaluate, image_of, predict
from pipeline.loader import StepDataset, batches
from pipeline.methods.base import MethodBase, build, resolve, setting_of
from pipeline.params import load_params
from pipeline.runtime import Runtime, set_up
from pipeline.seeding import seed_global
from pipeline.unlabeled import forward_each
from stages.study import known

REPORT = ROOT / "benchmarks/speed.md"
ROUNDS = 7
SMALL = ("mini", "camvid")
WHOLE = 0.4
"""Share of training at which a step of STPG has every part: prototypes still move, and all else
has begun."""
BANKS = (64, 256, 512, 2048)
MANY, SOME = 60, 24
"""Batches, of small images and of large ones."""
CARDS = ("a40", "a100")
"""GPUs whose plans the loader is held against."""
IMAGES = 100
"""Of an evaluation, at most."""
SHOWN = {"voc": (375, 4), "cityscapes": (1024, 1)}
"""Heights of the paper's images, and how many of them are evaluated."""


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS))
    asked = parser.parse_args().only.split(",")
    runtime = set_up(study("mini").train)
    former = sections(REPORT.read_text()) if REPORT.exists() else {}
    for name in PARTS:
        if name in asked:
            title, part = PARTS[name]
            former[title] = f"{machine()}.\n\n{part(runtime)}"
            print(f"## {title}\n\n{former[title]}\n", flush=True)
    head = ["# Speed", "As `python -m benchmarks.speed` measured it; " + HOW]
    titles = [title for title, _ in PARTS.values() if title in former]
    text = head + [f"## {title}\n\n{former[title]}" for title in titles]
    write_text(REPORT, "\n\n".join(text) + "\n")


HOW = (
    "medians, quartiles in brackets, what is compared measured in turns in one process. Ratios "
    "have the quartiles of those of single rounds."
)


def sections(text: str) -> dict[str, str]:
    """Of a former report, by title."""
    parts = re.split("^## (.+)\n", text, flags=re.MULTILINE)[1:]
    return {title: body.strip() for title, body in zip(parts[::2], parts[1::2], strict=True)}


@cache
def study(name: str) -> Params:
    """Its parameters."""
    return load_params(known()[name])


def bare(method: MethodBase, batch: Batch, runtime: Runtime) -> Callable[[], None]:
    """Every pass of a network in a step of STPG, forward and back, and nothing else."""
    students = list(method.students().values())

    def step() -> None:
        with runtime.autocast():
            passes()

    def passes() -> None:
        with torch.no_grad():
            shown, _ = forward_each(method.gen_teacher, batch.image_l, batch.image_u)
            method.gen_teacher.average.project(shown)
            method.pro_teacher(batch.image_u)
        outputs = []
        for student in students:
            for output in forward_each(student, batch.image_l, batch.image_u):
                outputs.append(output.logits)
                if student.projection is not None:
                    outputs.append(student.project(output))
        method.zero_grad(set_to_none=True)
        torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
        outputs[0][0, 0, 0, 0].item()  # a GPU is waited for

    return step


def stpg_of(
    params: Params, recipe: RecipeConfig, classes: int, runtime: Runtime, **change: object
) -> tuple[MethodBase, Batch]:
    """STPG with a study's parameters and other ones, on a recipe's network, and a random batch.

    No teacher is sure of noise; so that the bank fills, it need not be.
    """
    seed_global(0, "build")
    change["contrast"] = {"phi": 0.0} | change.get("contrast", {})
    config = resolve("stpg", params.methods["stpg"], change, key="methods.stpg")
    method = build("stpg", config, setting_of(recipe, classes, 0, 0))
    method.to(runtime.device, memory_format=runtime.memory_format).train()
    batch = random_batch(recipe.crop, recipe.batch, classes, method)
    return method, batch.to(runtime.device, runtime.memory_format)


def step_by_bare(
    title: str, params: Params, key: str, recipe: RecipeConfig, runtime: Runtime, rounds: int
) -> list[str]:
    """A line of the table: a step, the bare passes, and their ratio."""
    classes = classes_of(params, key)
    method, batch = stpg_of(params, recipe, classes, runtime)
    taken = in_turns(
        {"step": stepper_of(method, batch, runtime, WHOLE), "bare": bare(method, batch, runtime)},
        rounds,
    )
    height, width = recipe.crop
    title += f", {key}: {recipe.network.trunk}, {height} x {width}, batch {recipe.batch}"
    title += f", {classes} classes"
    return [title, *map(seconds, taken.values()), ratios(taken["step"], taken["bare"])]


COLUMNS = ("", "step (s)", "bare passes (s)", "ratio")


def part_step(runtime: Runtime) -> str:
    """Of the small studies."""
    rows = []
    for name in SMALL:
        params = study(name)
        for key, recipe in params.recipes.items():
            rows.append(step_by_bare(name, params, key, recipe, runtime, 3 * ROUNDS))
    return (
        "A step of STPG with all its terms, moving prototypes, assignment of anchors, a bank that "
        "fills, optimiser and teachers included, by the forward and backward passes of its "
        "networks on tensors of the same size.\n\n" + markdown(COLUMNS, rows)
    )


def part_paper(runtime: Runtime) -> str:
    """Of the paper's VOC recipe, with few images."""
    params = study("paper")
    recipe = params.recipes["blender"]
    recipe = replace(replace_trunk(recipe), batch=2)
    row = step_by_bare("paper", params, "blender", recipe, runtime, 5)
    return (
        "The same at the paper's crop, with fewer images, so that it ends: both sides grow with "
        "their number.\n\n" + markdown(COLUMNS, [row])
    )


def part_bank(runtime: Runtime) -> str:
    """Bank sizes by no bank and no similarity."""
    params = study("mini")
    recipe, classes = params.recipes["voc"], classes_of(params, "voc")
    kinds = {"no bank": {"contrast": {"bank_size": 0, "loss": "anchor"}}}
    kinds |= {f"N = {size}": {"contrast": {"bank_size": size}} for size in BANKS}
    method, batch = stpg_of(params, recipe, classes, runtime)
    step, steps = stepper_of(method, batch, runtime, WHOLE), {}
    for name, change in kinds.items():
        other, _ = stpg_of(params, recipe, classes, runtime, **change)
        steps[name] = partial(step_with, other.contrast, method, step)
    taken = in_turns(steps, 9 * ROUNDS, warm=3)
    rows = [
        [name, seconds(values), paired(values, taken["no bank"])] for name, values in taken.items()
    ]
    return (
        "A step of STPG (`mini`, VOC-like), by one with anchors alone; the same networks, with "
        f"each bank in turns, {9 * ROUNDS} times. Ratios are of a round each, their median and "
        "quartiles: so small a difference drowns in what the machine's clock does between "
        "rounds.\n\n" + markdown(("bank", "step (s)", "by no bank"), rows)
    )


def step_with(contrast: nn.Module, method: MethodBase, step: Callable[[], None]) -> None:
    """A step with another bank."""
    method.contrast = contrast
    step()


def part_pass(runtime: Runtime) -> str:
    """One pass for labelled and mixed images, or two."""
    rows = []
    for name in SMALL:
        params = study(name)
        key, recipe = next(iter(params.recipes.items()))
        classes, steps = classes_of(params, key), {}
        for joint in (True, False):
            method, batch = stpg_of(params, recipe, classes, runtime, joint_pass=joint)
            steps[joint] = stepper_of(method, batch, runtime, WHOLE)
        taken = in_turns(steps, ROUNDS)
        rows.append([name, *map(seconds, taken.values()), ratios(taken[False], taken[True])])
    return (
        "`joint_pass` of STPG: batch statistics of both kinds of images together, or apart.\n\n"
        + (markdown(("study", "together (s)", "apart (s)", "apart by together"), rows))
    )


def prepared_studies() -> dict[str, Params]:
    """Those whose data are all here, prepared and split."""
    found = {}
    for name in known():
        params, paths = study(name), Paths(name)
        sets = {run.dataset for run in params.runs.values()}
        splits = {run.split for run in params.runs.values()}
        if all((paths.prepared(x) / "index.json").exists() for x in sets) and all(
            paths.split(x).exists() for x in splits
        ):
            found[name] = params
    return found


def part_loader(runtime: Runtime) -> str:
    """Images that two workers make in a second, by those that a step of STPG takes."""
    rows = []
    for name, params in prepared_studies().items():
        kinds = {run.recipe: run for run in params.runs.values() if run.method == "stpg"}
        for run in kinds.values():
            recipe = params.recipes[run.recipe]
            data = Prepared.open(Paths(name).prepared(run.dataset))
            split = read_split(Paths(name).split(run.split), data)
            method, batch = stpg_of(params, recipe, len(data.classes), runtime)
            step = stepper_of(method, batch, runtime, WHOLE)
            dataset = StepDataset(data, split, method.views, replace(recipe, steps=100_000), 0)
            loop = batches(dataset, start=0, workers=2)
            list(islice(loop, MANY))  # decoded once, and no store of batches is left over
            load = in_turns({"load": lambda loop=loop: next(loop)}, MANY, warm=0)["load"]
            taken = in_turns({"step": step}, ROUNDS)["step"]
            # The mean, since batches wait for each other: two arrive together, then none.
            loaded, consumed = 1 / mean(load), 1 / median(taken)
            images = 2 * recipe.batch
            rows.append(
                [
                    f"{name}, {run.recipe}",
                    f"{images * loaded:.0f}",
                    f"{images * consumed:.0f}",
                    f"{loaded / consumed:.1f}",
                ]
            )
    return (
        "Images a second that two workers load and augment while nothing trains, by those that a "
        "step of STPG takes while nothing loads; small data are decoded once and kept. The studies "
        "themselves have two processors and `workers: 0`: there a step waits for its images, which "
        "by these ratios is less than a tenth of it.\n\n"
        + markdown(("study, recipe", "loaded (1/s)", "consumed (1/s)", "ratio"), rows)
    )


def part_large(runtime: Runtime) -> str:
    """Images that two workers make in a second of scenes in the size of the paper's images."""
    params, rows = study("paper"), []
    for name, (size, _) in SHOWN.items():
        key, run = next(
            (key, run)
            for key, run in params.runs.items()
            if (run.dataset, run.method) == (name, "stpg")
        )
        recipe = params.recipes[run.recipe]
        with drawn(name, Draw(size=size, fine=24, coarse=0, val=1)) as data:
            ids = [item.id for item in data.train]
            split = Split(name, "drawn", run.split, 8, 0, tuple(ids[:8]), tuple(ids[8:]))
            config = resolve("stpg", params.methods["stpg"], key="methods.stpg")
            method = build("stpg", config, setting_of(replace_trunk(recipe), 21, 0, 0))
            dataset = StepDataset(data, split, method.views, replace(recipe, steps=100_000), 0)
            dataset.read = dataset.read_pair  # as a data set too large to be kept
            loop = batches(dataset, start=0, workers=2)
            load = in_turns({"load": lambda loop=loop: next(loop)}, SOME, warm=4)["load"]
            item = data.train[0]
        loaded = 2 * recipe.batch / mean(load)
        taken = [cost_of(key, params, runtime, DEVICES[device]).seconds for device in CARDS]
        planned = [2 * recipe.batch / seconds for seconds in taken]
        title = f"{run.recipe}: {item.height} x {item.width}, crops of {recipe.crop[0]}"
        rows.append([title, f"{loaded:.1f}", *(f"{x:.0f} ({loaded / x:.2f})" for x in planned)])
    return (
        "Drawn scenes in the size of the paper's images, decoded anew each time: images a second "
        "that two workers load and augment, and those that a step of STPG takes on a GPU by the "
        "plan (`stages.plan`, not measured), in brackets the ratio. More workers load as many "
        "times more, as long as there are processors for them.\n\n"
        + markdown(("recipe", "loaded (1/s)", *CARDS), rows)
    )


def replace_trunk(recipe: RecipeConfig) -> RecipeConfig:
    """The recipe without pretrained weights, with the smaller trunk."""
    return replace(recipe, network=replace(recipe.network, weights="none", trunk="resnet50"))


@contextmanager
def drawn(name: str, how: Draw) -> Iterator[Prepared]:
    """Scenes in the format of a data set of `paper`, prepared."""
    params = study("paper")
    plain = params.datasets[name]
    source, config = source_of(plain), DatasetConfig(plain.source, draw=how)
    with tempfile.TemporaryDirectory() as folder:
        raw, prepared = Path(folder) / "raw", Path(folder) / name
        draw(config.source, raw, how)
        prepare(name, source, raw, prepared, config)
        # The paper's number of classes: drawn scenes have some of them alone.
        yield replace(Prepared.open(prepared), classes=source.class_table(plain, raw))


def part_evaluation(runtime: Runtime) -> str:
    """An evaluation by bare passes on its images."""
    rows = []
    for name, params in prepared_studies().items():
        for dataset, config in params.evaluation.items():
            run = next(run for run in params.runs.values() if run.dataset == dataset)
            recipe = params.recipes[run.recipe]
            data = Prepared.open(Paths(name).prepared(dataset))
            data = replace(data, val=data.val[:IMAGES])
            rows.append(
                evaluation_by_passes(f"{name}, {dataset}", data, recipe, config, runtime, ROUNDS)
            )
    return (
        f"Evaluation of {IMAGES} images, with reading, windows, counting and calibration, by the "
        "bare passes of its network on the same tensors.\n\n"
        + markdown(("study, data", "evaluation (s)", "bare passes (s)", "ratio"), rows)
    )


def part_whole(runtime: Runtime) -> str:
    """An evaluation as the paper's: drawn scenes in the size of its images."""
    params, rows = study("paper"), []
    for name, (size, number) in SHOWN.items():
        run = next(run for run in params.runs.values() if run.dataset == name)
        recipe = replace_trunk(params.recipes[run.recipe])
        with drawn(name, Draw(size=size, fine=1, coarse=0, val=number)) as data:
            item, way = data.val[0], params.evaluation[name]
            how = f"windows of {way.window}" if way.mode == "sliding" else "whole"
            title = f"{name}: {number} of {item.height} x {item.width}, {how}"
            rows.append(evaluation_by_passes(title, data, recipe, way, runtime, 3))
    return (
        "The same with ResNet-50 and the paper's ways and numbers of classes, on few drawn scenes "
        "in the size of its images.\n\n"
        + markdown(("data", "evaluation (s)", "bare passes (s)", "ratio"), rows)
    )


def evaluation_by_passes(
    title: str,
    data: Prepared,
    recipe: RecipeConfig,
    config: EvaluationConfig,
    runtime: Runtime,
    rounds: int,
) -> list[str]:
    """A line of the table: an evaluation, its network's passes, and their ratio."""
    network = setting_of(recipe, len(data.classes), 0, 0).networks.network("timed").eval()
    network.to(runtime.device, memory_format=runtime.memory_format)
    inputs: list[torch.Tensor] = []
    with noted(network, inputs), torch.inference_mode():
        for item in data.val:
            predict(network, image_of(data, item, runtime), config)
    whole = partial(evaluate, network, data, config, runtime, title=title)
    passes = partial(all_of, network, inputs)
    taken = in_turns({"whole": whole, "passes": passes}, rounds)
    return [title, *map(seconds, taken.values()), ratios(taken["whole"], taken["passes"])]


@torch.inference_mode()
def all_of(network: nn.Module, inputs: list[torch.Tensor]) -> None:
    """Passes a network each input."""
    for image in inputs:
        network(image)


@contextmanager
def noted(network: nn.Module, inputs: list[torch.Tensor]) -> Iterator[None]:
    """Inside, what a network is shown is kept."""
    handle = network.register_forward_pre_hook(lambda _, x: inputs.append(x[0].clone()))
    try:
        yield
    finally:
        handle.remove()


PARTS: dict[str, tuple[str, Callable[[Runtime], str]]] = {
    "step": ("A step by its networks", part_step),
    "paper": ("A step by its networks, at the paper's size", part_paper),
    "bank": ("Size of the memory bank", part_bank),
    "pass": ("One pass or two", part_pass),
    "loader": ("The loader", part_loader),
    "large": ("The loader, at the paper's size", part_large),
    "evaluation": ("Evaluation", part_evaluation),
    "whole": ("Evaluation, at the paper's size", part_whole),
}

if __name__ == "__main__":
    main()
