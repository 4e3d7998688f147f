import math

import pytest

from pipeline.ramps import cosine_ramp, linear_ramp, sigmoid_ramp


def test_the_sigmoid_ramp_worked_by_hand():
    assert sigmoid_ramp(0.0, 0.2) == pytest.approx(math.exp(-5))
    assert sigmoid_ramp(0.1, 0.2) == pytest.approx(math.exp(-1.25))
    assert sigmoid_ramp(0.2, 0.2) == sigmoid_ramp(0.9, 0.2) == 1.0


def test_the_cosine_ramp_worked_by_hand():
    found = [cosine_ramp(p, 0.3) for p in (0.0, 0.1, 0.15, 0.3, 0.5)]
    assert found == pytest.approx([0, 0.25, 0.5, 1, 1])


def test_a_ramp_of_no_length_is_up_at_once():
    assert sigmoid_ramp(0.0, 0.0) == cosine_ramp(0.0, 0.0) == 1.0


def test_the_linear_ramp_goes_from_the_one_to_the_other():
    assert [linear_ramp(p, 0.2, 0.0) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.2, 0.1, 0.0])
