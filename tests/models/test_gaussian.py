import math

import pytest
import torch

from pipeline.models.deeplab import NetworkFactory
from pipeline.models.gaussian import LEAST, Fused, MeanHead, VarianceHead
from pipeline.seeding import drawn_from, stream
from tests.prepared import NETWORK


def feature(channels=6, num=2):
    return torch.randn(num, channels, 5, 7, generator=stream(0, "feature"))


def test_the_networks_own_logits_and_what_its_decoder_gets():
    network = NetworkFactory(NETWORK, 3, 0).network("a").eval()
    image = torch.rand(2, 3, 45, 70, generator=stream(0, "image"))
    output = Fused(network)(image)
    expected = network(image)
    torch.testing.assert_close(output.logits, expected.logits)
    assert output.fused.shape[1] == NETWORK.aspp_channels + NETWORK.low_level_channels
    assert output.coarse.shape[-2:] == output.fused.shape[-2:] == expected.decoder.shape[-2:]
    torch.testing.assert_close(network.decoder(output.fused), expected.decoder)
    torch.testing.assert_close(network.classifier(expected.decoder), output.coarse)


def test_means_have_the_asked_dimensions():
    head = MeanHead(6, 10)
    assert head(feature()).shape == (2, 10, 5, 7)
    assert [type(layer).__name__ for layer in head] == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d"]


def variance_head():
    with drawn_from(0, "head"):
        return VarianceHead(6, 4)


def test_variances_equal_a_slow_loop():
    head = variance_head().eval()
    with torch.no_grad():
        head.scale.fill_(1.5)
        head.shift.fill_(-0.3)
    x = feature(num=1)
    found = head(x)
    assert found.dtype == torch.float32
    epsilon = head.norm.eps  # both norms still have mean 0 and variance 1
    for y in range(5):
        for column in range(7):
            hidden = []
            for row in head.first.weight.detach()[:, :, 0, 0].double():
                value = float(row @ x[0, :, y, column].double() / row.norm())
                hidden.append(max(0.0, value / math.sqrt(1 + epsilon)))
            for d, row in enumerate(head.second.weight.detach()[:, :, 0, 0].double()):
                value = float(row @ torch.tensor(hidden).double() / row.norm())
                value = 1.5 * value / math.sqrt(1 + epsilon) - 0.3
                value = math.log(math.exp(value) + 1e-6)
                expected = 1 / (1 + math.exp(-value))
                assert found[0, d, y, column].item() == pytest.approx(expected, rel=1e-4)


def test_the_length_of_a_row_does_not_matter():
    head = variance_head()
    before = head(feature())
    with torch.no_grad():
        head.first.weight[0] *= 7
        head.second.weight[1] *= 0.2
    torch.testing.assert_close(head(feature()), before)


def test_no_variance_is_zero():
    head = variance_head()
    for shift, expected in ((-200.0, LEAST), (200.0, 1.0)):
        with torch.no_grad():
            head.shift.fill_(shift)
        variance = head(feature())
        assert variance.detach().flatten().tolist() == pytest.approx([expected] * 280, rel=1e-3)
        variance.log().sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in head.parameters())
