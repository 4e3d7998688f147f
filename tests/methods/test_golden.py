"""Five steps of every method, held to recorded numbers: `make golden` records them anew.

In float64: tiny networks, whose norms see few values, blow up differences of rounding, and every
kind of processor rounds in its own way.
"""

import json
import os
from pathlib import Path

import pytest
import torch

from pipeline.methods import base
from tests.methods.test_contract import make, run_steps

TRACES = Path(__file__).parents[1] / "golden" / "traces.json"


@pytest.mark.parametrize("name", base.available())
def test_five_steps_give_the_recorded_totals(name):
    totals, _ = run_steps(make(name).double(), 5, dtype=torch.float64)
    if os.environ.get("RECORD_GOLDEN"):
        traces = json.loads(TRACES.read_text()) if TRACES.exists() else {}
        TRACES.parent.mkdir(exist_ok=True)
        TRACES.write_text(json.dumps(traces | {name: totals}, indent=1, sort_keys=True) + "\n")
    assert totals == pytest.approx(json.loads(TRACES.read_text())[name], rel=1e-5)
