import os
import pickle
import signal
from contextlib import suppress
from dataclasses import replace

import pytest
import torch

from pipeline import loader
from pipeline.batch import Views
from pipeline.config import NetworkConfig, RecipeConfig
from pipeline.data.splits import Split
from pipeline.loader import StepDataset, WholeImages, batches
from tests.prepared import make_prepared

RECIPE = RecipeConfig(
    crop=(32, 32), batch=3, steps=12, lr=0.1, network=NetworkConfig("resnet10t", "none")
)
ALL = Views(unlabeled=True, strong=2)


@pytest.fixture
def data(tmp_path):
    return make_prepared(tmp_path / "tiny", num_train=7)


def split_of(data, num_labeled):
    ids = [item.id for item in data.train]
    return Split(
        "tiny", "drawn", "standard", 1, 0, tuple(ids[:num_labeled]), tuple(ids[num_labeled:])
    )


def dataset(data, num_labeled=2, views=ALL, seed=0):
    return StepDataset(data, split_of(data, num_labeled), views, RECIPE, seed)


def same(first, second):
    return all(torch.equal(getattr(first, k), getattr(second, k)) for k in TENSORS)


TENSORS = ("image_l", "label_l", "image_u", "strong_u", "valid_u", "truth_u", "index_u")


def test_a_batch_has_the_shapes_and_types_of_the_contract(data):
    batch = dataset(data)[0]
    shapes = {name: tuple(getattr(batch, name).shape) for name in TENSORS}
    assert shapes == {
        "image_l": (3, 3, 32, 32),
        "label_l": (3, 32, 32),
        "image_u": (3, 3, 32, 32),
        "strong_u": (2, 3, 3, 32, 32),
        "valid_u": (3, 32, 32),
        "truth_u": (3, 32, 32),
        "index_u": (3,),
    }
    assert (batch.label_l.dtype, batch.valid_u.dtype) == (torch.int64, torch.bool)
    assert batch.image_l.min() >= 0
    assert batch.image_l.max() <= 1


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_depend_neither_on_workers_nor_on_where_a_run_resumes(data, workers):
    steps = dataset(data)
    resumed = list(batches(steps, start=9, workers=workers))
    assert len(resumed) == 3
    assert all(same(batch, dataset(data)[step]) for step, batch in enumerate(resumed, 9))
    assert [b.seed for b in resumed] == [dataset(data)[s].seed for s in (9, 10, 11)]


def test_a_data_set_reaches_spawned_workers_by_pickle(data):
    copy = pickle.loads(pickle.dumps(dataset(data)))
    assert same(copy[3], dataset(data)[3])


def test_a_worker_outlives_a_signal_to_the_whole_group_until_the_state_is_saved(data, monkeypatch):
    monkeypatch.setattr(loader, "GRACE", 2)
    given = batches(dataset(data), start=0, workers=1)
    first = next(given)
    (worker,) = given._workers
    os.kill(worker.pid, signal.SIGTERM)
    assert same(first, dataset(data)[0])
    assert same(next(given), dataset(data)[1])
    with suppress(RuntimeError):  # torch's own handler, if it comes before the join ends
        worker.join(timeout=10)
    assert worker.exitcode == -signal.SIGALRM


def test_seeds_give_other_batches(data):
    assert not same(dataset(data, seed=0)[0], dataset(data, seed=1)[0])


def test_every_image_is_seen_once_a_pass(data):
    steps = dataset(data, num_labeled=2)
    seen = [steps.unlabeled.index(item) for item in read_order(steps, 10)]
    assert sorted(seen[:5]) == sorted(seen[5:]) == list(range(5))
    assert seen[:5] != seen[5:]


def read_order(steps, count, role="unlabeled"):
    order = []
    read, steps.read = steps.read, lambda item: (order.append(item), read(item))[1]
    for number in range(count):
        steps.weak(role, steps.unlabeled, number)
    return order


def test_one_labelled_image_fills_a_batch_with_its_own_augmentations(data):
    batch = dataset(data, num_labeled=1)[0]
    assert len(batch.image_l) == 3
    assert not torch.equal(batch.image_l[0], batch.image_l[1])


def test_labelling_every_image_leaves_them_all_as_the_unlabelled_stream(data):
    steps = dataset(data, num_labeled=7)
    assert steps.unlabeled == steps.labeled == list(data.train)


def test_a_method_that_wants_no_unlabelled_images_gets_empty_tensors(data):
    batch = dataset(data, views=Views())[0]
    assert tuple(batch.image_u.shape) == (0, 3, 32, 32)
    assert tuple(batch.strong_u.shape) == (0, 0, 3, 32, 32)


def test_partners_are_a_second_draw_of_the_unlabelled_images(data):
    alone = dataset(data)[0]
    batch = dataset(data, views=Views(unlabeled=True, partners=True, strong=2))[0]
    assert tuple(batch.image_u.shape) == (6, 3, 32, 32)
    assert tuple(batch.strong_u.shape) == (2, 6, 3, 32, 32)
    assert tuple(batch.truth_u.shape) == tuple(batch.valid_u.shape) == (6, 32, 32)
    assert torch.equal(batch.image_u[:3], alone.image_u)
    assert torch.equal(batch.strong_u[:, :3], alone.strong_u)
    assert not torch.equal(batch.image_u[3:], alone.image_u)


def test_the_strong_copies_keep_the_geometry_and_change_the_colours(data, monkeypatch):
    batch = dataset(data)[0]
    assert not torch.equal(batch.strong_u[0], batch.strong_u[1])
    assert not torch.equal(batch.strong_u[0], batch.image_u)
    monkeypatch.setitem(loader.KINDS, "jitter", lambda image, generator: image)
    assert all(torch.equal(view, batch.image_u) for view in dataset(data)[0].strong_u)


def test_strong_copies_of_large_crops_do_not_depend_on_the_number_of_threads(data):
    recipe = replace(RECIPE, crop=(256, 256), batch=2, steps=2)
    steps = StepDataset(data, split_of(data, 2), Views(unlabeled=True, strong=2), recipe, 0)
    torch.set_num_threads(2)
    (here,), (there,) = (list(batches(steps, start=1, workers=n)) for n in (0, 1))
    assert torch.get_num_threads() == 2
    assert torch.equal(here.strong_u, there.strong_u)


def test_an_image_without_a_mask_is_all_ignored(tmp_path):
    data = make_prepared(tmp_path / "t", num_train=4, num_unmasked=2)
    split = split_of(data, 2)
    batch = StepDataset(data, split, ALL, RECIPE, 0)[0]
    assert (batch.truth_u == 255).all()
    assert batch.valid_u.any()


def test_the_strong_copies_are_of_the_kind_asked_for(data):
    jittered, changed = (
        dataset(data, views=Views(unlabeled=True, strong=1, strong_kind=kind))[0]
        for kind in ("jitter", "intensity")
    )
    assert torch.equal(jittered.image_u, changed.image_u)
    assert not torch.equal(jittered.strong_u, changed.strong_u)


def test_a_batch_says_which_unlabelled_images_it_has(data):
    steps = dataset(data, views=Views(unlabeled=True, partners=True))
    batch = steps[1]
    for role, found in (("unlabeled", batch.index_u[:3]), ("partner", batch.index_u[3:])):
        order = [steps.unlabeled.index(item) for item in read_order(steps, 6, role)]
        assert found.tolist() == order[3:]
    assert dataset(data, views=Views())[0].index_u.tolist() == []


def test_the_unlabelled_images_are_there_whole(data):
    steps = dataset(data)
    whole = WholeImages(steps, torch.device("cpu"))
    assert len(whole) == 5
    for number, item in enumerate(steps.unlabeled):
        image = torch.from_numpy(data.read_image(item).copy())
        assert torch.equal((whole[number][0] * 255).round().byte().permute(1, 2, 0), image)
