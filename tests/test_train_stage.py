"""In how many processes stage `train` starts a training, and what it says when these end early."""

from dataclasses import replace

import pytest
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from pipeline import trainer
from pipeline.params import load_params
from pipeline.typed import ConfigError
from stages import train as stage
from stages.study import known

VOC, CITYSCAPES = "blender_8_stpg", "cityscapes_8_stpg"


class Here(Exception):
    """The training begins in this process."""


def paper(processes):
    params = load_params(known()["paper"])
    return replace(params, runtime=replace(params.runtime, processes=processes))


@pytest.fixture
def started(monkeypatch):
    """What `start_all` is asked for; a training in this process raises Here."""

    def here(params):
        raise Here

    found = []
    monkeypatch.setattr(stage, "start_all", lambda *given: found.append(given))
    monkeypatch.setattr(stage, "check_methods", here)
    return found


@pytest.mark.parametrize(
    ("key", "asked", "number"), [(VOC, 8, 8), (VOC, 6, 4), (CITYSCAPES, 8, 3), (CITYSCAPES, 3, 3)]
)
def test_a_run_of_the_paper_takes_as_many_as_divide_its_batch(
    key, asked, number, started, monkeypatch, capsys
):
    monkeypatch.setattr(stage, "load_params", lambda: paper(asked))
    stage.main(key)
    assert started == [(key, number)]
    said = f"{key}: in {number} of {asked} processes" in capsys.readouterr().out
    assert said == (number < asked)


def test_where_only_one_divides_the_training_is_in_this_process(started, monkeypatch, capsys):
    monkeypatch.setattr(stage, "load_params", lambda: paper(2))
    with pytest.raises(Here):
        stage.main(CITYSCAPES)
    assert not started
    assert "in 1 of 2 processes" in capsys.readouterr().out


def test_what_torchrun_started_starts_no_others(started, monkeypatch):
    monkeypatch.setattr(stage, "load_params", lambda: paper(8))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(Here):
        stage.main(VOC)
    assert not started


def test_what_passes_at_once_is_what_is_shared():
    recipe = replace(paper(8).recipes["cityscapes"], batch=8)
    assert trainer.most_that_share(8, replace(recipe, accumulate=4)) == 2
    assert trainer.most_that_share(3, replace(recipe, accumulate=8)) == 1


def test_torchrun_by_hand_with_a_number_that_does_not_divide_is_an_error():
    recipe = paper(8).recipes["cityscapes"]
    trainer.check_divides(3, recipe)
    with pytest.raises(ConfigError, match=r"^torchrun: 8 processes; .* divisor of 3.*start 3"):
        trainer.check_divides(8, recipe)


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (SignalException("stop", 15), "stages.train: stopped; run again to go on"),
        (
            ChildFailedError("x", {1: ProcessFailure(1, 123, -9, "")}),
            "stages.train: process 1 of 2 ended with -9; run again to go on from the last saved "
            "state",
        ),
    ],
)
def test_what_ends_the_processes_is_said(raised, message, monkeypatch):
    def torchrun(arguments):
        assert "--nproc-per-node=2" in arguments
        assert arguments[-2:] == ["stages.train", "a"]
        raise raised

    monkeypatch.setattr("torch.distributed.run.main", torchrun)
    with pytest.raises(SystemExit) as ended:
        stage.start_all("a", 2)
    assert ended.value.code == message
