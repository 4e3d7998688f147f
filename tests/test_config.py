import copy

import pytest
import yaml

from pipeline.artifacts import ROOT
from pipeline.config import DatasetConfig, EvaluationConfig, NetworkConfig, Params
from pipeline.jobs import method_config
from pipeline.params import load_params, read_yaml
from pipeline.typed import ConfigError, from_mapping

STUDY = """
study: tiny
datasets:
  voc: {source: voc, draw: {size: 64, fine: 8, coarse: 8, val: 4}}
  camvid: {source: camvid}
splits:
  voc_8: {dataset: voc, protocol: blender, partition: 8}
recipes:
  voc:
    crop: [64, 64]
    batch: 2
    steps: 10
    lr: 1
    network: {trunk: resnet18, weights: none}
methods:
  supervised: {}
train: {}
evaluation:
  voc: {mode: whole}
runs:
  voc_8_supervised:
    {dataset: voc, split: voc_8, recipe: voc, method: supervised, seeds: [0]}
examined:
  voc_8_supervised: {dataset: voc}
tables: [voc]
"""


def changed(path: str, value: object) -> dict:
    """The study above with one key set, as YAML would give it."""
    study = yaml.safe_load(STUDY)
    *above, last = path.split(".")
    section = study
    for name in above:
        section = section[name]
    section[last] = value
    return study


def test_a_small_study_is_read_with_its_defaults():
    params = from_mapping(Params, yaml.safe_load(STUDY), "")
    assert params.datasets["voc"].draw.seed == params.splits["voc_8"].seed == 0
    assert params.recipes["voc"].lr == 1.0
    assert params.recipes["voc"].network == NetworkConfig("resnet18", "none", 16, 5, 4, 48, 256)
    assert params.evaluation["voc"] == EvaluationConfig("whole", 800, 2 / 3)
    assert params.datasets["camvid"] == DatasetConfig("camvid", None, None, None)
    assert params.runs["voc_8_supervised"].set == {}


@pytest.mark.parametrize("path", [ROOT / "params.yaml", *sorted(ROOT.glob("studies/*.yaml"))])
def test_a_study_of_the_repository_is_valid(path):
    params = load_params(path)
    assert params.runs
    for run in params.runs:
        method_config(run, params)
    if path.parent.name == "studies":
        assert params.study == path.stem


RUN = "runs.voc_8_supervised"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("splits.voc_8.dataset", "vov", "splits.voc_8.dataset: no 'vov'; did you mean 'voc'? "),
        (f"{RUN}.dataset", "vov", f"{RUN}.dataset: no 'vov'; did you mean 'voc'? known: camvid, "),
        (f"{RUN}.split", "voc_9", f"{RUN}.split: no 'voc_9'; did you mean 'voc_8'?"),
        (f"{RUN}.recipe", "city", f"{RUN}.recipe: no 'city'; known: voc"),
        (f"{RUN}.method", "stpg", f"{RUN}.method: no 'stpg'; known: supervised"),
        (
            f"{RUN}.dataset",
            "camvid",
            f"{RUN}.dataset: no 'camvid' in evaluation; known: voc",
        ),
        (
            "examined.voc_8_supervised.dataset",
            "camvid",
            "examined.voc_8_supervised.dataset: camvid; expected voc, the run's",
        ),
        ("examined.voc_8", {"dataset": "voc"}, "examined.voc_8: no 'voc_8' in runs; known: "),
        ("examined", {}, "examined: found nothing; expected a run at least, RUN: {dataset: "),
        (
            "datasets.camvid.source",
            "camvod",
            "datasets.camvid.source: no 'camvod'; did you mean 'camvid'? known: camvid, "
            "cityscapes, folder, voc",
        ),
        ("tables", {"voc": {}}, "tables: found {'voc': {}}; expected a list, each text"),
        (f"{RUN}.seeds", [], f"{RUN}.seeds: []; expected distinct seeds"),
        (f"{RUN}.seeds", [1, 1], f"{RUN}.seeds: [1, 1]; expected distinct seeds"),
        (
            "datasets.camvid.draw",
            {"size": 64, "fine": 8, "coarse": 8, "val": 4},
            "datasets.camvid.draw: camvid data cannot be drawn; expected source voc or cityscapes",
        ),
        ("datasets.voc.height", 0, "datasets.voc.height: 0; expected at least 32"),
        ("datasets.voc.draw.size", 16, "datasets.voc.draw.size: 16; expected at least 32"),
        ("datasets.voc.draw.fine", 0, "datasets.voc.draw.fine: 0; expected at least 1"),
        ("datasets.voc.draw.coarse", -1, "datasets.voc.draw.coarse: -1; expected at least 0"),
        ("datasets.voc.draw.val", 0, "datasets.voc.draw.val: 0; expected at least 1"),
        ("splits.voc_8.partition", 0, "splits.voc_8.partition: 0; expected at least 1"),
        (
            "splits.voc_8.unlabeled",
            "u.txt",
            "splits.voc_8.unlabeled: 'u.txt' without splits.voc_8.labeled",
        ),
        ("recipes.voc.lr", "5e-3", "recipes.voc.lr: found '5e-3'; expected a number (write 5.0e-3"),
        ("recipes.voc.lr", 0, "recipes.voc.lr: 0.0; expected a positive number"),
        ("recipes.voc.batch", 1, "recipes.voc.batch: 1; expected at least 2"),
        (
            "recipes.voc.accumulate",
            3,
            "recipes.voc.accumulate: 3 parts of a batch of 2; expected parts of one size, of at",
        ),
        ("recipes.voc.accumulate", 2, "recipes.voc.accumulate: 2 parts of a batch of 2; expected"),
        ("recipes.voc.steps", 0, "recipes.voc.steps: 0; expected at least 1"),
        ("recipes.voc.flip", 1.5, "recipes.voc.flip: 1.5; expected 0.0 to 1.0"),
        ("recipes.voc.ohem_threshold", 7, "recipes.voc.ohem_threshold: 7.0; expected 0.0 to 1.0"),
        ("recipes.voc.ohem_min_kept", -1, "recipes.voc.ohem_min_kept: -1; expected at least 0"),
        ("recipes.voc.crop", [64, 16], "recipes.voc.crop: [64, 16]; expected height and width >="),
        ("recipes.voc.crop", [64], "recipes.voc.crop: found [64]; expected a list of 2, each an"),
        ("recipes.voc.scales", [], "recipes.voc.scales: []; expected positive factors"),
        ("recipes.voc.scales", [1, 0], "recipes.voc.scales: [1.0, 0.0]; expected positive"),
        ("recipes.voc.network.output_stride", 4, "recipes.voc.network.output_stride: found 4; exp"),
        ("recipes.voc.network.trunk_stages", 2, "recipes.voc.network.trunk_stages: 2; expected 3"),
        ("recipes.voc.network.aspp_channels", 0, "recipes.voc.network.aspp_channels: 0; expected"),
        ("recipes.voc.network.aspp_rates", [6, 0], "recipes.voc.network.aspp_rates[1]: 0; expect"),
        ("train.momentum", 1.1, "train.momentum: 1.1; expected 0.0 to 1.0"),
        ("train.weight_decay", -1, "train.weight_decay: -1.0; expected at least 0"),
        ("train.threads", 0, "train.threads: 0; expected at least 1"),
        ("runtime", {"checkpoint_every": 0}, "runtime.checkpoint_every: 0; expected at least 1"),
        ("runtime", {"workers": -1}, "runtime.workers: -1; expected at least 0"),
        ("runtime", {"processes": 0}, "runtime.processes: 0; expected at least 1"),
        ("evaluation.voc.window", 16, "evaluation.voc.window: 16; expected at least 32"),
        ("evaluation.voc.stride", 0, "evaluation.voc.stride: 0.0; expected 0.05 to 1.0"),
    ],
)
def test_a_wrong_value_is_refused_by_name(path, value, message):
    with pytest.raises(ConfigError) as error:
        from_mapping(Params, changed(path, value), "")
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(("name", "value"), [("processes", 2), ("activation_checkpointing", True)])
def test_what_compiled_networks_do_not_work_with_is_refused(name, value):
    study = changed("train.compile", True)
    study["runtime"] = {name: value}
    with pytest.raises(ConfigError, match=f"^runtime.{name}: {value} with train.compile true; exp"):
        from_mapping(Params, study, "")


def test_a_run_takes_only_splits_of_its_own_data_set():
    study = changed(f"{RUN}.dataset", "camvid")
    study["evaluation"]["camvid"] = {"mode": "whole"}
    with pytest.raises(ConfigError) as error:
        from_mapping(Params, study, "")
    assert str(error.value) == (
        f"{RUN}.split: voc_8 is a split of voc; expected one of camvid, the run's dataset"
    )


@pytest.mark.parametrize("section", ["datasets", "splits", "runs"])
@pytest.mark.parametrize("name", ["Voc", "voc-8", "../voc", "voc.8", ""])
def test_a_name_that_is_no_good_as_a_path_is_refused(section, name):
    study = yaml.safe_load(STUDY)
    study[section][name] = copy.deepcopy(next(iter(study[section].values())))
    with pytest.raises(ConfigError) as error:
        from_mapping(Params, study, "")
    assert str(error.value) == f"{section}.{name}: expected a name of a-z, 0-9 and _ only"


@pytest.mark.parametrize("name", ["../other", "a b", "", "Mini"])
def test_a_study_whose_name_is_no_good_as_a_path_is_refused(name):
    with pytest.raises(ConfigError) as error:
        from_mapping(Params, yaml.safe_load(STUDY) | {"study": name}, "")
    assert str(error.value) == f"study: {name}: expected a name of a-z, 0-9 and _ only"


def test_an_error_names_the_file_once(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text("study: [1")
    with pytest.raises(
        ConfigError, match=r"(?s)^some\.yaml: not valid YAML: .*some\.yaml.*line 1, col"
    ):
        read_yaml(path)
    with pytest.raises(ConfigError, match=r"(?s)^some\.yaml: not valid YAML"):
        load_params(path)
    path.write_text("study: 1")
    with pytest.raises(ConfigError, match=r"^some\.yaml: datasets: missing; expected a mapping$"):
        load_params(path)


def test_a_missing_file_says_how_to_get_one(tmp_path):
    with pytest.raises(ConfigError, match=r"params\.yaml: no such file; `python -m stages\.study"):
        load_params(tmp_path / "params.yaml")


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
"""Forty lines that stand for 2^40 values."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB, "more than 1000000 values, aliases .* written out"),
        ("study: &s {again: *s}", "an alias .* inside what it stands for"),
        ("[" * 5000, "nested too deeply"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("when: 2026-99-99", "a value that cannot be read .*month must be in 1..12"),
        ("a: !!bool foo", "a value that cannot be read"),
        ("a: !!int ''", "a value that cannot be read"),
        ("a: !!timestamp x", "a value that cannot be read"),
        ("a: " + "1:" * 300 + "1.0", "a value that cannot be read"),
        ("seed: " + "9" * 5000, "a value that cannot be read"),
        ("? [1]\n: 2", "unhashable key"),
        (b"name: caf\xe9", "byte 9 is not UTF-8"),
        (b"a: \x00", "special characters are not allowed"),
    ],
)
def test_hostile_yaml_gets_no_further_than_a_message(content, message, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=rf"(?s)params\.yaml: .*{message}") as caught:
        read_yaml(path)
    assert len(str(caught.value)) < 1000


def test_aliases_and_merges_mean_what_they_do_in_yaml(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("base: &b {x: 1, y: 2}\nother: {<<: *b, y: 3}\nsame: [*b, *b]\n")
    content = read_yaml(path)
    assert content["other"] == {"x": 1, "y": 3}
    assert content["same"] == [{"x": 1, "y": 2}] * 2
    path.write_text("")
    assert read_yaml(path) is None


@pytest.mark.parametrize("field", ["steps", "lr"])
@pytest.mark.parametrize("value", ["0x" + "f" * 5000, "[" + "0, " * 9000 + "0]"])
def test_a_value_that_is_no_use_is_shown_in_short(field, value):
    study = yaml.safe_load(STUDY)
    study["recipes"]["voc"][field] = yaml.safe_load(value)
    with pytest.raises(
        ConfigError, match=rf"^recipes\.voc\.{field}: found .*; expected "
    ) as caught:
        from_mapping(Params, study, "")
    assert len(str(caught.value)) < 500
