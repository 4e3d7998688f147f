import json
import math
from dataclasses import asdict

import pytest

from pipeline.artifacts import write_json
from pipeline.forecast import forecast
from pipeline.jobs import job_of
from tests.tiny import study


def finish(params, paths, key, seed, minutes):
    """Leaves the files of a training that took so long."""
    folder = job_of(key, seed, params, paths).folder
    write_json(folder / "record.json", {"run": key, "seed": seed, "minutes": minutes})
    (folder / "model.pt").touch()


def record(seconds_per_step, **changes):
    """What a report says of a training with the recipe above, but for `changes`."""
    recipe = asdict(study().recipes["short"]) | changes
    return {"method": "supervised", "recipe": recipe, "seconds_per_step": seconds_per_step}


NOTHING_KNOWN = "study tiny: 0 of 5 trainings done; 5 of a kind not timed yet"


def test_before_any_training_only_their_number_is_known(paths):
    assert forecast(study(), paths) == (
        "study tiny: 0 of 5 trainings done; 5 of a kind not timed yet (python -m stages.plan "
        "estimates them)"
    )


def test_trainings_take_as_long_as_those_of_their_method_and_recipe(paths):
    finish(study(), paths, "plain", 0, 2.0)
    finish(study(), paths, "plain", 1, 4.0)
    assert forecast(study(), paths) == (
        "study tiny: 2 of 5 trainings done; about 6 min of training left, and 1 of a kind not "
        "timed yet (python -m stages.plan estimates them)"
    )
    finish(study(), paths, "ours", 0, 10.0)
    assert forecast(study(), paths) == (
        "study tiny: 3 of 5 trainings done; about 6 min of training left"
    )


def test_before_any_is_done_the_reports_say_how_long_they_took(paths):
    write_json(paths.record("plain"), [record(45.0), record(75.0)])
    assert forecast(study(), paths) == (
        "study tiny: 0 of 5 trainings done; about 16 min of training left (for 4 as reports/tiny "
        "say, of any machine), and 1 of a kind not timed yet (python -m stages.plan estimates them)"
    )
    finish(study(), paths, "plain", 0, 0.1)
    assert "1 of 5 trainings done; about 1 min of training left, and 1" in forecast(study(), paths)


def test_records_count_by_the_step_and_for_the_same_recipe_only(paths):
    write_json(paths.record("plain"), [record(60.0, steps=1000), record(9.0, batch=4)])
    assert "about 16 min of training left (for 4 as reports" in forecast(study(), paths)
    write_json(paths.record("plain"), [record(60.0, batch=4)])
    assert forecast(study(), paths).startswith(NOTHING_KNOWN)
    write_json(paths.record("plain"), [record(60.0) | {"method": "cps"}])
    assert forecast(study(), paths).startswith(NOTHING_KNOWN)


def test_a_record_may_be_older_than_a_parameter_of_the_recipe(paths):
    older = record(60.0)
    for name in ("accumulate", "trunk_lr"):
        del older["recipe"][name]
    write_json(paths.record("plain"), [older])
    assert "about 16 min of training left (for 4 as reports" in forecast(study(), paths)


@pytest.mark.parametrize("text", ["", "{", "[1]", "[{}]", "null", '[{"method": "supervised"}]'])
def test_a_broken_record_stops_no_training(paths, text):
    path = paths.record("plain")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert forecast(study(), paths).startswith(NOTHING_KNOWN)
    path.write_text(json.dumps([record(math.nan)]))
    assert forecast(study(), paths).startswith(NOTHING_KNOWN)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"minutes": null}', '{"minutes": NaN}'])
def test_a_finished_training_whose_record_is_broken_is_done_in_unknown_time(paths, text):
    finish(study(), paths, "ours", 0, 10.0)
    path = job_of("ours", 0, study(), paths).folder / "record.json"
    path.write_text(text)
    assert "1 of 5 trainings done; 4 of a kind not timed yet" in forecast(study(), paths)
    path.unlink()
    assert "1 of 5 trainings done; 4 of a kind not timed yet" in forecast(study(), paths)


def test_trainings_with_a_state_are_begun(paths):
    folder = job_of("plain", 1, study(), paths).folder
    folder.mkdir(parents=True)
    (folder / "state.previous.pt").touch()
    assert forecast(study(), paths).startswith(
        "study tiny: 0 of 5 trainings done, 1 begun; 5 of a kind not"
    )
    (folder / "model.pt").touch()
    assert "begun" not in forecast(study(), paths)


def test_a_training_with_other_parameters_is_not_done(paths):
    finish(study(), paths, "ours", 0, 10.0)
    changed = study(stpg={"lambda_u": 0.5})
    assert forecast(changed, paths).startswith("study tiny: 0 of 5")
