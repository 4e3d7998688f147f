import pytest

from tests.faults import STAGES, kill_points
from tests.pipeline.project import make_project

pytestmark = pytest.mark.slow


def test_a_study_killed_at_random_points_ends_in_the_same_bytes(tmp_path):
    points = kill_points(make_project(tmp_path / "repository"), len(STAGES) + 1, seed=1)
    assert [point.problem for point in points] == [""] * 6
    assert sum(point.inside for point in points) >= 3
