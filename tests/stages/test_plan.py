import sys

import pytest

from pipeline.artifacts import ROOT
from pipeline.cost import Cost
from pipeline.params import load_params
from pipeline.typed import ConfigError
from stages import plan


@pytest.fixture
def asked(monkeypatch):
    """Runs the command with one cost for every kind of run; the runs that it was asked of."""
    keys = []

    def cost_of(key, params, runtime, device):
        keys.append((key, device))
        return Cost(trained=2_500_000, flops=3e12, gib=50.0, seconds=0.36)

    monkeypatch.setattr(plan, "cost_of", cost_of)
    monkeypatch.setenv("STPG_DEVICE", "cpu")

    def ask(*arguments):
        monkeypatch.setattr(sys, "argv", ["plan", *arguments])
        plan.main()
        return keys

    return ask


def test_hours_are_those_of_all_trainings(asked, capsys):
    keys = asked("paper", "--device", "a40")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "study paper on a40, one process; a step, and one training:"
    # 120,000 steps on Cityscapes
    assert printed[2] == (
        "     12.00         9    0.360     3,000   50.0     2.5  "
        "cityscapes_16_supervised and 2 more"
    )
    paper = load_params(ROOT / "studies/paper.yaml")
    steps = sum(len(run.seeds) * paper.recipes[run.recipe].steps for run in paper.runs.values())
    hours = f"{steps * 0.36 / 3600:,.1f} hours"
    assert printed[-2] == f"321 trainings: {hours}, at most 50.0 GiB of tensors"
    assert printed[-1].startswith("50.0 GiB are more than the 48 of a40: lower recipes")
    assert len(keys) == len(printed) - 4 < len(paper.runs)
    assert keys[0][1] is plan.DEVICES["a40"]


def test_the_study_in_place_on_this_machine_unless_said_otherwise(asked, capsys):
    assert {device for _, device in asked()} == {None}
    assert f"study {load_params().study} on cpu" in capsys.readouterr().out


def test_an_unknown_study_is_refused_with_those_that_there_are(asked):
    with pytest.raises(ConfigError, match=r"papr.*did you mean 'paper'"):
        asked("papr")
