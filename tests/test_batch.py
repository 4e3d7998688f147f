from dataclasses import fields

import pytest
import torch

from pipeline.batch import Batch


def make_batch(num, *, partners):
    roles = 2 if partners else 1
    numbers = torch.arange(roles * num)
    return Batch(
        image_l=torch.rand(num, 3, 4, 5),
        label_l=torch.arange(num).view(-1, 1, 1).expand(num, 4, 5),
        image_u=numbers.view(-1, 1, 1, 1).expand(-1, 3, 4, 5).float(),
        strong_u=torch.rand(2, roles * num, 3, 4, 5),
        valid_u=torch.rand(roles * num, 4, 5) > 0.5,
        truth_u=torch.randint(9, (roles * num, 4, 5)),
        index_u=numbers,
        seed=7,
    )


def test_one_part_is_the_batch():
    batch = make_batch(4, partners=False)
    assert batch.parts(1, torch.channels_last) == [batch]


@pytest.mark.parametrize("partners", [False, True])
def test_parts_hold_every_image_once_beside_its_partner(partners):
    batch = make_batch(6, partners=partners)
    parts = batch.parts(3, torch.channels_last)
    assert len(parts) == 3
    assert [part.label_l[:, 0, 0].tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]
    own = [[0, 1], [2, 3], [4, 5]]
    want = [pair + [k + 6 for k in pair] for pair in own] if partners else own
    assert [part.index_u.tolist() for part in parts] == want
    for part in parts:
        assert torch.equal(part.image_u[:, 0, 0, 0], part.index_u.float())
        for name in ("valid_u", "truth_u"):
            assert torch.equal(getattr(part, name), getattr(batch, name)[part.index_u])
        assert torch.equal(part.strong_u, batch.strong_u[:, part.index_u])
        assert part.image_u.is_contiguous(memory_format=torch.channels_last)


def test_parts_draw_from_streams_of_their_own():
    first, second = make_batch(4, partners=False).parts(2, torch.contiguous_format)
    assert len({first.seed, second.seed, 7}) == 3


def test_a_batch_without_unlabelled_images_has_parts_without_them():
    whole = make_batch(4, partners=False)
    empty = {f.name: getattr(whole, f.name) for f in fields(whole)}
    for name in ("image_u", "valid_u", "truth_u", "index_u"):
        empty[name] = empty[name][:0]
    empty["strong_u"] = empty["strong_u"][:0, :0]
    parts = Batch(**empty).parts(2, torch.contiguous_format)
    assert [len(part.image_l) for part in parts] == [2, 2]
    assert [part.image_u.shape for part in parts] == [(0, 3, 4, 5)] * 2
