import json
import re

import pytest
import yaml

from pipeline import jobs
from pipeline.artifacts import ROOT, Paths, write_json
from pipeline.config import Params
from pipeline.data.splits import make_split, write_split
from pipeline.jobs import check_methods, commit, job_of
from pipeline.typed import ConfigError, from_mapping
from tests.tiny import STUDY, study


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
