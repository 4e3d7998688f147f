from types import SimpleNamespace

import pytest
import torch

from benchmarks.overhead import in_turns, table
from benchmarks.steps import alternate, stepper, with_study
from pipeline.methods.base import available
from pipeline.runtime import Runtime
from pipeline.typed import InputError
from tests.methods.test_contract import RECIPE, SECTIONS


def test_two_functions_are_called_in_turns_and_the_first_calls_do_not_count():
    calls = []
    first, second = alternate(lambda: calls.append("a"), lambda: calls.append("b"), steps=3)
    assert "".join(calls) == "ab" * 5
    assert len(first) == len(second) == 3
    assert min(first + second) > 0


def test_costs_of_a_study_replace_its_former_ones():
    former = "study,recipe,method,ratio\na,r,cps,4.000\nb,r,cps,5.000\na,r,stpg,6.000\n"
    assert with_study(former, "a", "new", {"supervised": 1.0}) == (
        "study,recipe,method,ratio\na,new,supervised,1.000\nb,r,cps,5.000\n"
    )
    with pytest.raises(InputError, match=r"^benchmarks/steps\.csv: columns a,b; expected study,"):
        with_study("a,b\n", "a", "new", {})


def test_all_are_called_in_turns_and_the_first_calls_do_not_count_either():
    calls = []
    seconds = in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert "".join(calls) == "ab" * 4
    assert [len(values) for values in seconds.values()] == [3, 3]


def test_a_table_of_seconds_by_hand():
    got = table("study", "by a", {"a": [1, 2, 3], "b": [6, 6, 6]}, "a", {"a": 5, "b": 9})
    assert got.splitlines() == [
        "| study | stages | seconds | by a |",
        "| --- | ---: | ---: | ---: |",
        "| `a` | 5 | 2.00 (1.00 to 3.00) | 1.00 |",
        "| `b` | 9 | 6.00 (6.00 to 6.00) | 3.00 |",
    ]


@pytest.mark.parametrize("name", available())
def test_every_method_takes_a_step(name):
    params = SimpleNamespace(recipes={"small": RECIPE}, methods=SECTIONS)
    runtime = Runtime(torch.device("cpu"), None, channels_last=True)
    stepper(name, params, "small", runtime)()
