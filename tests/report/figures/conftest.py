"""The tiny study, and figures of it."""

import pytest

from pipeline.artifacts import Paths
from pipeline.report.results import Results
from pipeline.report.spec import FigureSpec
from tests.report.study import BASE, OURS, write_study


@pytest.fixture
def results(tmp_path):
    paths = Paths("tiny", tmp_path)
    write_study(paths)
    return Results(paths)


@pytest.fixture
def spec_of():
    """A figure of some kind: of STPG, or of the runs that are given."""

    def make(kind, runs=None, **options):
        return FigureSpec(kind, "A title", "Figure 0", runs or {"STPG": OURS}, options)

    return make


@pytest.fixture
def both():
    return {"Sup.": BASE, "STPG": OURS}
