import numpy as np
import pytest

from pipeline.artifacts import write_arrays
from pipeline.report.figures import qualitative
from pipeline.typed import InputError
from tests.report.figures.reading import caption_of, legend_of
from tests.report.study import CLASSES, COLORS, OURS, PICTURES


def test_columns_are_image_runs_and_truth(results, spec_of, both):
    figure = qualitative.draw(spec_of("qualitative", both), results)
    rows = np.array(figure.axes).reshape(2, 4)
    assert [axis.get_title() for axis in rows[0]] == ["image", "Sup.", "STPG", "truth"]
    assert not any(axis.get_title() for axis in rows[1])


def test_maps_are_in_class_colours_and_the_ignored_white(results, spec_of, both):
    changed = PICTURES | {"prediction_0": np.full((4, 6), 3, np.uint8)}
    write_arrays(results.paths.examined(OURS) / "pictures.npz", changed)
    figure = qualitative.draw(spec_of("qualitative", both), results)
    image, base, ours, truth = (axis.images[0].get_array().tolist() for axis in figure.axes[:4])
    assert image == PICTURES["image_0"].tolist()
    assert base[0] == [COLORS[c] for c in (0, 0, 0, 1, 1, 1)]
    assert ours[0] == [COLORS[3]] * 6
    assert truth[0] == [COLORS[c] for c in (0, 0, 1, 1, 2)] + [[255, 255, 255]]
    assert figure.axes[3].collections  # hatched
    assert not figure.axes[7].collections  # nothing ignored


def test_the_legend_has_the_classes_that_occur(results, spec_of):
    figure = qualitative.draw(spec_of("qualitative"), results)
    names = legend_of(figure)
    assert names == [*CLASSES[:3], "ignored"]
    assert figure.subfigs[0].legends[0].get_patches()[-1].get_hatch()


def test_nothing_ignored_is_not_in_the_legend(results, spec_of):
    changed = PICTURES | {"truth_0": np.zeros((4, 6), np.uint8)}
    write_arrays(results.paths.examined(OURS) / "pictures.npz", changed)
    figure = qualitative.draw(spec_of("qualitative"), results)
    names = legend_of(figure)
    assert names == ["road", "sky"]


def test_the_caption_has_the_rule_and_the_names(results, spec_of):
    text = caption_of(qualitative.draw(spec_of("qualitative"), results))
    rule = "Of each of 2 equal parts of the validation images, by name, the one that shows most"
    assert f"{rule} classes: val_a, val_b." in text


def test_runs_of_other_images_are_refused(results, spec_of, both):
    changed = PICTURES | {"ids_K": np.array(["val_a", "val_c"])}
    write_arrays(results.paths.examined(OURS) / "pictures.npz", changed)
    with pytest.raises(InputError, match=r"STPG shows other images than Sup\."):
        qualitative.draw(spec_of("qualitative", both), results)
