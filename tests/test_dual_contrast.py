import pytest
import torch

from pipeline.dual_contrast import ContrastConfig, DualContrast
from tests.reference import contrast as reference

C, D = 4, 6


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def filled(bank_size, steps=9):
    """A state after a few steps."""
    config = ContrastConfig(
        dim=D, bank_size=bank_size, top_k=3, phi=0.5, bank_from=0.0, loss_from=0.0
    )
    contrast, draw = DualContrast(config, C, rng()), rng(1)
    for _ in range(steps):
        feature = 5 * torch.randn(40, D, generator=draw)
        label = torch.randint(C - 1, (40,), generator=draw)  # of the last class there are none
        contrast.observe(feature, label, torch.rand(40, generator=draw), progress=0.2)
    return contrast


@pytest.mark.parametrize("bank_size", [1, 8, 512])
def test_similarity_is_the_literal_sum_over_the_bank(bank_size):
    contrast = filled(bank_size)
    feature = torch.randn(30, D, generator=rng(2), dtype=torch.float64)
    label = torch.randint(C, (30,), generator=rng(2))
    bank = contrast.bank
    assert (bank.filled_CQ.sum(dim=1) > 0).tolist() == [True, True, True, False]
    want = reference.similarity(feature, label, bank.bank_CQD, bank.filled_CQ, "class")
    got = contrast.losses(feature, label, rng(3))["similarity"]
    assert got.item() == pytest.approx(want, abs=1e-6)
    assert 0.1 < want < 2


def test_the_bank_holds_directions():
    bank = filled(8).bank
    length = bank.bank_CQD.norm(dim=-1)
    torch.testing.assert_close(length, bank.filled_CQ.float())


def test_what_is_restored_goes_on_alike():
    contrast, restored = filled(8), filled(8, steps=1)
    restored.load_state_dict(contrast.state_dict())
    feature, label = torch.randn(30, D, generator=rng(2)), torch.arange(30) % C
    got, want = (each.losses(feature, label, rng(3)) for each in (restored, contrast))
    assert got == want
    assert got != filled(8, steps=1).losses(feature, label, rng(3))
