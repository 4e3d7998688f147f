from types import SimpleNamespace

import pytest
import torch

from benchmarks.overhead import table
from benchmarks.speed import WHOLE, bare, sections, stpg_of
from benchmarks.steps import stepper, stepper_of, with_study
from benchmarks.timing import in_turns, paired, ratios, seconds
from pipeline.methods.base import available
from pipeline.models.deeplab import DeepLabV3Plus
from pipeline.models.heads import ProjectionHead
from pipeline.runtime import Runtime
from pipeline.typed import InputError
from tests.methods.test_contract import RECIPE, SECTIONS


def test_costs_of_a_study_replace_its_former_ones():
    former = "study,recipe,method,ratio\na,r,cps,4.000\nb,r,cps,5.000\na,r,stpg,6.000\n"
    assert with_study(former, "a", "new", {"supervised": 1.0}) == (
        "study,recipe,method,ratio\na,new,supervised,1.000\nb,r,cps,5.000\n"
    )
    with pytest.raises(InputError, match=r"^benchmarks/steps\.csv: columns a,b; expected study,"):
        with_study("a,b\n", "a", "new", {})


def test_all_are_called_in_turns_and_the_first_calls_do_not_count():
    calls = []
    seconds = in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, warm=2)
    assert "".join(calls) == "ab" * 5
    assert [len(values) for values in seconds.values()] == [3, 3]


def test_a_table_of_seconds_by_hand():
    got = table("study", "by a", {"a": [1, 2, 3], "b": [6, 6, 6]}, "a", {"a": 5, "b": 9})
    assert got.splitlines() == [
        "| study | stages | seconds | by a |",
        "| --- | ---: | ---: | ---: |",
        "| `a` | 5 | 2.00 (1.00 to 3.00) | 1.00 |",
        "| `b` | 9 | 6.00 (6.00 to 6.00) | 3.00 |",
    ]


def test_medians_and_quartiles_by_hand():
    assert seconds([4, 1, 2, 3, 5]) == "3.00 (1.50 to 4.50)"
    assert seconds([0.1, 0.2, 0.3]) == "0.200 (0.100 to 0.300)"
    assert ratios([2, 4, 9], [1, 2, 3]) == "2.00 (2.00 to 3.00)"
    assert paired([2, 4, 9], [1, 2, 3]) == "2.000 (2.000 to 3.000)"
    assert seconds([1, 3]) == "2.00 (1.00 to 3.00)"  # none beyond them


def test_a_report_is_read_back_by_its_sections():
    text = "# Speed\n\nHow.\n\n## One\n\na\n\nb\n\n## Two\n\nc\n"
    assert sections(text) == {"One": "a\n\nb", "Two": "c"}


def test_bare_passes_are_those_of_a_step():
    runtime = Runtime(torch.device("cpu"), None, channels_last=True)
    params = SimpleNamespace(methods=SECTIONS)
    method, batch = stpg_of(params, RECIPE, 5, runtime)
    shown = {}
    for name, network in method.named_modules():
        if isinstance(network, DeepLabV3Plus | ProjectionHead):
            network.register_forward_pre_hook(
                lambda _, x, name=name: shown.setdefault(name, []).append(tuple(x[0].shape))
            )
    counts = []
    for step in (bare(method, batch, runtime), stepper_of(method, batch, runtime, WHOLE)):
        shown.clear()
        step()
        counts.append({name: sorted(sizes) for name, sizes in shown.items()})
    assert counts[0] == counts[1] != {}
    assert (method.contrast.bank.pushed_C > 0).all()  # every part was at work
    assert method.contrast.seen_C.all()


@pytest.mark.parametrize("name", available())
def test_every_method_takes_a_step(name):
    params = SimpleNamespace(recipes={"small": RECIPE}, methods=SECTIONS)
    runtime = Runtime(torch.device("cpu"), None, channels_last=True)
    stepper(name, params, "small", 5, runtime)()
