import json
import re

import pytest
import yaml

from pipeline import jobs
from pipeline.artifacts import ROOT, Paths, write_json
from pipeline.config import Params
from pipeline.data.splits import make_split, write_split
from pipeline.jobs import check_methods, commit, forecast, job_of
from pipeline.typed import ConfigError, from_mapping
from tests.prepared import make_prepared

STUDY = """
study: tiny
datasets: {blocks: {source: folder}, absent: {source: folder}}
splits:
  half: {dataset: blocks, protocol: standard, partition: 2}
  later: {dataset: absent, protocol: standard, partition: 2}
recipes:
  short: {crop: [32, 32], batch: 2, steps: 4, lr: 0.1, network: {trunk: resnet10t, weights: none}}
methods: {supervised: {}, stpg: {lambda_u: 1.0}}
train: {}
evaluation: {blocks: {mode: whole}, absent: {mode: whole}}
runs:
  plain:
    {dataset: blocks, split: half, recipe: short, method: supervised, seeds: [0, 1, 2]}
  ours:
    {dataset: blocks, split: half, recipe: short, method: stpg, seeds: [0]}
  late:
    {dataset: absent, split: later, recipe: short, method: supervised, seeds: [0]}
examined: {plain: {dataset: blocks}}
"""


def study(**changes):
    """The study above, with keys of the section `methods` set."""
    content = yaml.safe_load(STUDY)
    content["methods"] |= changes
    return from_mapping(Params, content, "")


@pytest.fixture
def paths(tmp_path, monkeypatch):
    monkeypatch.setenv("STPG_WORK", str(tmp_path / "work"))
    paths = Paths("tiny", tmp_path)
    data = make_prepared(paths.prepared("blocks"))
    write_split(paths.split("half"), make_split(data, study().splits["half"]))
    for method in study().methods:
        write_json(paths.fingerprint(f"train-{method}"), {"pipeline.trainer": "0"})
    return paths


def finish(params, paths, key, seed, minutes):
    """Leaves the files of a training that took so long."""
    folder = job_of(key, seed, params, paths).folder
    write_json(folder / "record.json", {"run": key, "seed": seed, "minutes": minutes})
    (folder / "model.pt").touch()


def test_before_any_training_only_their_number_is_known(paths):
    assert forecast(study(), paths) == (
        "study tiny: 0 of 5 trainings done; 5 of a kind not timed yet"
    )


def test_trainings_take_as_long_as_those_of_their_method_and_recipe(paths):
    finish(study(), paths, "plain", 0, 2.0)
    finish(study(), paths, "plain", 1, 4.0)
    assert forecast(study(), paths) == (
        "study tiny: 2 of 5 trainings done; about 6 min of training left, and 1 of a kind not "
        "timed yet"
    )
    finish(study(), paths, "ours", 0, 10.0)
    assert forecast(study(), paths) == (
        "study tiny: 3 of 5 trainings done; about 6 min of training left"
    )


def test_before_any_is_done_the_reports_say_how_long_they_took(paths):
    write_json(paths.record("plain"), [{"minutes": 3.0}, {"minutes": 5.0}])
    assert forecast(study(), paths) == (
        "study tiny: 0 of 5 trainings done; about 16 min of training left (4 of them as formerly "
        "recorded), and 1 of a kind not timed yet"
    )
    finish(study(), paths, "plain", 0, 0.1)
    assert "1 of 5 trainings done; about 1 min of training left, and 1" in forecast(study(), paths)


def test_a_training_with_other_parameters_is_not_done(paths):
    finish(study(), paths, "ours", 0, 10.0)
    changed = study(stpg={"lambda_u": 0.5})
    assert forecast(changed, paths).startswith("study tiny: 0 of 5")


def test_the_folder_depends_on_parameters_code_data_and_split(paths):
    def folder(params=None):
        jobs.open_prepared.cache_clear()
        jobs.open_split.cache_clear()
        return job_of("ours", 0, params or study(), paths).folder

    seen = {folder(), folder(study(stpg={"lambda_u": 0.5}))}
    write_json(paths.fingerprint("train-stpg"), {"pipeline.trainer": "1"})
    seen.add(folder())
    index = json.loads((paths.prepared("blocks") / "index.json").read_text())
    write_json(paths.prepared("blocks") / "index.json", index | {"digest": "another"})
    seen.add(folder())
    params = yaml.safe_load(STUDY)
    params["splits"]["half"]["seed"] = 5
    params = from_mapping(Params, params, "")
    data = jobs.open_prepared(paths.prepared("blocks"))
    write_split(paths.split("half"), make_split(data, params.splits["half"]))
    seen.add(folder(params))
    assert len(seen) == 5
    assert folder(params) in seen


def test_studies_share_a_training_that_is_the_same_in_both(paths):
    other = Paths("other", paths.root)
    write_split(other.split("half"), jobs.open_split(paths.split("half"), paths.prepared("blocks")))
    assert job_of("ours", 0, study(), other).folder == job_of("ours", 0, study(), paths).folder


def test_a_record_names_the_commit():
    assert re.fullmatch("[0-9a-f]{12}(-dirty)?|none", commit())
    assert (commit() == "none") == (not (ROOT / ".git").exists())


def test_a_wrong_parameter_of_any_run_is_found_before_the_first(paths):
    check_methods(study())
    with pytest.raises(ConfigError, match=r"^params\.yaml: methods\.cpss: no method 'cpss'"):
        check_methods(study(cpss={}))
    with pytest.raises(ConfigError, match=r"^paper\.yaml: methods\.stpg\.lambda_u: found 'much'"):
        check_methods(study(stpg={"lambda_u": "much"}), "paper.yaml")
    params = study()
    params.runs["ours"].set["selection"] = "some"
    with pytest.raises(
        ConfigError, match=r"^params\.yaml: runs\.ours\.set\.selection: found 'some'"
    ):
        check_methods(params)
