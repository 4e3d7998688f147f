import json

import numpy as np
import pytest

from pipeline.report.drawing import darkened
from pipeline.report.figures import tsne
from tests.report.figures.reading import caption_of, legend_of
from tests.report.study import COLORS, EMBEDDING, OURS


def test_a_panel_a_run_with_its_silhouettes(results, spec_of, both):
    figure = tsne.draw(spec_of("tsne", both), results)
    assert [axis.get_title() for axis in figure.axes] == ["Sup.", "STPG"]
    assert {axis.get_xlabel() for axis in figure.axes} == {
        "silhouette of the features 0.12, of the map -0.05"
    }


def test_every_point_is_where_it_is_in_its_classs_colour(results, spec_of):
    (collection,) = tsne.draw(spec_of("tsne"), results).axes[0].collections
    colors = darkened(np.array(COLORS))
    got = {tuple(place) for place in collection.get_offsets().tolist()}
    assert got == {tuple(place) for place in EMBEDDING["place_P2"].tolist()}
    by_place = dict(
        zip(map(tuple, EMBEDDING["place_P2"].tolist()), EMBEDDING["class_P"], strict=True)
    )
    for place, face in zip(collection.get_offsets(), collection.get_facecolors(), strict=True):
        assert np.allclose(face[:3], colors[by_place[tuple(place)]])


def test_markers_differ_as_in_the_legend(results, spec_of):
    figure = tsne.draw(spec_of("tsne"), results)
    (collection,) = figure.axes[0].collections
    corners = {
        tuple(place): len(path.vertices)
        for place, path in zip(
            collection.get_offsets().tolist(), collection.get_paths(), strict=True
        )
    }
    assert corners[(0.0, 0.0)] == corners[(1.0, 0.0)]
    assert len({corners[(0.0, 0.0)], corners[(5.0, 5.0)], corners[(-3.0, 4.0)]}) == 3
    handles = figure.subfigs[0].legends[0].legend_handles
    assert [handle.get_marker() for handle in handles] == ["o", "s", "^"]


def test_all_points_are_in_view_on_one_scale(results, spec_of):
    axis = tsne.draw(spec_of("tsne"), results).axes[0]
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    assert left < -3 < 6 < right
    assert low < 0 < 5 < high
    assert right - left == pytest.approx(high - low)
    assert axis.get_aspect() == 1


def test_the_legend_has_the_classes_that_have_points(results, spec_of):
    figure = tsne.draw(spec_of("tsne"), results)
    texts = legend_of(figure)
    assert texts == ["road", "sky", "traffic sign"]


def test_the_caption_says_how_it_was_made(results, spec_of):
    path = results.paths.examined(OURS) / "about.json"
    about = json.loads(path.read_text())
    about["embedding"] |= {"points_per_class": 77, "perplexity": 12.5, "seed": 3}
    path.write_text(json.dumps(about))
    text = caption_of(tsne.draw(spec_of("tsne"), results))
    assert "up to 77 points a class, perplexity 12.5 (less with few points), seed 3." in text
