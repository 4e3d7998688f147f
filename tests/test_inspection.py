import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts import ROOT, Paths
from pipeline.config import DatasetConfig
from pipeline.data.sources import folder
from pipeline.inspection import inspect, look_of, written
from pipeline.params import load_params
from pipeline.pictures import ORIENTATION
from pipeline.typed import InputError
from stages import inspect as stage
from tests.prepared import NAMES

CONFIG = DatasetConfig("folder")


def scene(seed, size=(40, 60)):
    """An image with a pattern of its own."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize(size[::-1], Image.Resampling.NEAREST)


@pytest.fixture
def local(tmp_path):
    """Five images: `a` and `b` have masks, `c` has none, `v` and `w` validate."""
    root = tmp_path / "mine"
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for k, name in enumerate("abcvw"):
        scene(k).save(root / f"images/{name}.png")
    mask = np.zeros((40, 60), np.uint8)
    mask[:10] = 1
    mask[:, :6] = 255
    for name in "abvw":
        Image.fromarray(mask).save(root / f"masks/{name}.png")
    (root / "classes.yaml").write_text("[ground, sky, bird]\n")
    (root / "val.txt").write_text("v\nw\n")
    return root


def inspected(root):
    return inspect(folder.samples(root, CONFIG), folder.class_table(CONFIG, root))


def test_a_sound_folder_by_hand(local):
    found = inspected(local)
    assert found.images == {"train": 2, "val": 2, "unlabeled": 1}
    assert dict(found.sizes) == {(40, 60): 5}
    assert found.pixels["train"].tolist() == [2 * 30 * 54, 2 * 10 * 54, 0, 2 * 40 * 6]
    assert found.shown_in["val"].tolist() == [2, 2, 0]
    assert found.problems == []
    assert found.warnings == [
        "class 'bird': no pixel in train",
        "class 'bird': no pixel in val: one that is predicted there counts as IoU 0",
    ]
    text = written(found)
    assert "60 x 40 (5)" in text
    assert "ground                      75.00       2    75.00       2" in text
    assert "ignored in train: 10.00 % of pixels" in text
    assert text.endswith("0 problems, 2 warnings")


def test_every_problem_is_told_not_only_the_first(local):
    Image.fromarray(np.full((40, 60), 7, np.uint8)).save(local / "masks/a.png")
    Image.fromarray(np.zeros((40, 61), np.uint8)).save(local / "masks/b.png")
    found = inspected(local)
    assert len(found.problems) == 3
    assert "a.png: label 7; expected 0 to 2" in found.problems[0]
    assert "b.png: 61x40 pixels; expected 60x40" in found.problems[1]
    assert found.problems[2] == "no train image with a mask; expected at least one"


def test_every_mask_that_cannot_be_read_is_told(local):
    for name in "ab":
        Image.new("RGB", (60, 40)).save(local / f"masks/{name}.png")
    found = inspected(local)
    assert [text.split(": ")[0][-5:] for text in found.problems[:2]] == ["a.png", "b.png"]
    assert all("a mask of colours, but classes.yaml" in text for text in found.problems[:2])


def test_what_ends_the_reading_is_told(local):
    Image.new("L", (60, 40)).save(local / "masks/x.png")
    found = inspected(local)
    (problem,) = found.problems
    assert "x.png: no image x in" in problem
    assert written(found).splitlines() == [
        f"problem: {problem}", "no image was looked at: mend these first", "1 problems, 0 warnings",
    ]  # fmt: skip


def test_every_name_that_does_not_fit_is_told(local):
    Image.new("L", (60, 40)).save(local / "masks/x.png")
    for name in ("images/notes.txt", "images/film.heic", "masks/a.tif", "masks/thumbs.db"):
        (local / name).write_bytes(b"")
    (local / "val.txt").write_text("v\nc\nnone\n")
    found = inspected(local)
    starts = [text.split(": ")[0].removeprefix(f"{local}/") for text in found.problems]
    assert starts == [
        "images/film.heic", "images/notes.txt", "masks/a.tif", "masks/thumbs.db", "masks/x.png",
        "val.txt", "val.txt",
    ]  # fmt: skip


def test_names_of_any_characters_are_inspected(local):
    for k, name in enumerate(NAMES):
        scene(10 + k).save(local / f"images/{name}.png")
    found = inspected(local)
    assert found.problems == []
    assert found.images["unlabeled"] == 1 + len(NAMES)


def test_a_mask_that_fits_its_photograph_turned_or_not_is_warned_of(local):
    turned = Image.Exif()
    turned[ORIENTATION] = 3  # by half a turn
    scene(0).save(local / "images/a.png", exif=turned)
    turned[ORIENTATION] = 6  # by a quarter: its mask was turned too, or it would not fit
    scene(1, size=(60, 40)).save(local / "images/b.png", exif=turned)
    found = inspected(local)
    assert found.problems == []
    (warning,) = [text for text in found.warnings if "EXIF" in text]
    assert warning.endswith("a.png is turned too")


def test_a_missing_folder_is_said_where_it_should_be(tmp_path, monkeypatch):
    monkeypatch.setenv("STPG_DATA", str(tmp_path))
    monkeypatch.setattr(stage, "load_params", lambda: load_params(ROOT / "studies/own.yaml"))
    monkeypatch.setattr(stage, "Paths", lambda study: Paths(study, tmp_path))
    with pytest.raises(InputError, match=f"^{tmp_path}/own: no such folder; put your data there"):
        stage.main("own")


def test_a_validation_image_that_trains_is_a_problem(local):
    (local / "images/v.png").write_bytes((local / "images/a.png").read_bytes())
    (problem,) = inspected(local).problems
    assert "v.png: the same file as" in problem
    assert problem.endswith("a.png, which trains; remove one")


def test_one_that_only_looks_alike_is_warned_of(local):
    scene(2).resize((30, 20)).save(local / "images/v.jpg")  # c, smaller and compressed
    (local / "images/v.png").unlink()
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(local / "masks/v.png")
    found = inspected(local)
    alike = [warning for warning in found.warnings if "looks like" in warning]
    assert len(alike) == 1
    assert "v.jpg: looks like" in alike[0]
    assert alike[0].endswith("c.png, which trains")
    assert found.problems == []


def test_images_that_show_nothing_are_not_alike():
    assert look_of(Image.new("RGB", (20, 20), (90, 90, 90))) is None
    assert look_of(scene(0)) != look_of(scene(1))


def test_masks_of_0_and_255_are_warned_of(local):
    for path in (local / "masks").iterdir():
        mask = np.zeros((40, 60), np.uint8)
        mask[:10] = 255
        Image.fromarray(mask).save(path)
    warned = "\n".join(inspected(local).warnings)
    assert "train shows no class but 'ground', and 255, which is ignored: in a mask" in warned
