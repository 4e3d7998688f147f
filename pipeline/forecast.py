"""How many trainings of a study are left, and how long they will take."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import mean

from pipeline.artifacts import Paths
from pipeline.config import Params, RecipeConfig
from pipeline.jobs import job_of
from pipeline.learner import states_of
from pipeline.typed import from_mapping

Training = tuple[str, int, Path]
"""Run, seed, and the folder where it is kept."""


def forecast(params: Params, paths: Paths) -> str:
    """How many trainings of the study are done or begun, and the minutes that are left.

    Trainings of one method and recipe take as long as those of them that are done, or else as those
    that the study's reports tell of, step by step; one that is begun counts whole.
    """
    trainings = list(folders(params, paths))
    done = list(finished(trainings))
    known = by_kind(params, ((k, minutes) for k, _, minutes in done if minutes is not None))
    former = by_kind(params, recorded(params, paths))
    ended = {(key, seed) for key, seed, _ in done}
    begun = started(folder for key, seed, folder in trainings if (key, seed) not in ended)
    waiting = [
        (run.method, run.recipe)
        for key, run in params.runs.items()
        for seed in run.seeds
        if (key, seed) not in ended
    ]
    timed = [mean(known[kind]) for kind in waiting if kind in known]
    told = [mean(former[kind]) for kind in waiting if kind not in known and kind in former]
    untimed = len(waiting) - len(timed) - len(told)
    minutes = max(1, round(sum(timed + told)))
    by = f" (for {len(told)} as reports/{params.study} say, of any machine)" if told else ""
    left = [f"about {minutes} min of training left{by}"] if timed or told else []
    plan = "python -m stages.plan estimates them"
    left += [f"{untimed} of a kind not timed yet ({plan})"] if untimed else []
    total = len(done) + len(waiting)
    begun = f", {begun} begun" if begun else ""
    return (
        f"study {params.study}: {len(done)} of {total} trainings done{begun}; "
        f"{', and '.join(left) or 'none left'}"
    )


def finished(trainings: Iterable[Training]) -> Iterator[tuple[str, int, float | None]]:
    """Run, seed and minutes, None if unknown, of those that need not run again."""
    for key, seed, folder in trainings:
        if (folder / "model.pt").exists():
            minutes = None
            with suppress(OSError, ValueError, KeyError, TypeError):
                minutes = float(json.loads((folder / "record.json").read_text())["minutes"])
            yield key, seed, minutes if minutes is not None and math.isfinite(minutes) else None


def started(folders: Iterable[Path]) -> int:
    """How many have a state to go on from."""
    return sum(any(path.exists() for path in states_of(folder)) for folder in folders)


def folders(params: Params, paths: Paths) -> Iterator[Training]:
    """Of the study's trainings, done or not, whose data are prepared."""
    for key, run in params.runs.items():
        for seed in run.seeds:
            try:
                folder = job_of(key, seed, params, paths).folder
            except (FileNotFoundError, ValueError):  # its data are not prepared or split (anew) yet
                continue
            yield key, seed, folder


def recorded(params: Params, paths: Paths) -> Iterator[tuple[str, float]]:
    """Run and minutes by the study's reports, on whatever machine that was.

    A record counts if its method is the run's and, but for steps, its recipe; it is taken by the
    step. One that cannot be read is passed over: no training shall fail for it.
    """
    for key, run in params.runs.items():
        recipe = params.recipes[run.recipe]
        with suppress(OSError, ValueError, KeyError, TypeError, ArithmeticError):
            for record in json.loads(paths.record(key).read_text()):
                former = from_mapping(RecipeConfig, record["recipe"], "")
                same = replace(former, steps=recipe.steps) == recipe
                minutes = float(record["seconds_per_step"]) * recipe.steps / 60
                if same and record["method"] == run.method and math.isfinite(minutes):
                    yield key, minutes


def by_kind(
    params: Params, taken: Iterable[tuple[str, float]]
) -> dict[tuple[str, str], list[float]]:
    """Minutes of runs by method and recipe."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for key, minutes in taken:
        found[params.runs[key].method, params.runs[key].recipe].append(minutes)
    return dict(found)
