"""Winograd's convolution against the direct convolution in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from heal.layers.winograd import WinogradConv2d, _matrices, convolve_part, replace_wide


def _conv(channels: int = 24, out_channels: int = 16, bias: bool = True) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(channels, out_channels, 3, padding=1, bias=bias).requires_grad_(False)


def _reference(conv: nn.Conv2d, x: Tensor) -> Tensor:
    bias = None if conv.bias is None else conv.bias.detach().double()
    return functional.conv2d(x.double(), conv.weight.detach().double(), bias, padding=1)


def _deviation(y: Tensor, reference: Tensor) -> float:
    assert y.shape == reference.shape
    return ((y - reference).abs().max() / reference.abs().max()).item()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (4, 4), (5, 6), (8, 7), (33, 21), (61, 67), (3, 530), (70, 4)])
def test_equals_the_direct_convolution(size: tuple[int, int]) -> None:
    conv, x = _conv(), torch.randn(1, 24, *size)
    assert _deviation(WinogradConv2d(conv)(x), _reference(conv, x)) < 1e-5


def test_is_exact_up_to_rounding() -> None:
    conv, x = _conv().double(), torch.randn(2, 24, 13, 70, dtype=torch.float64)
    assert _deviation(WinogradConv2d(conv)(x), _reference(conv, x)) < 1e-13


def test_one_dimension_by_hand() -> None:
    """A line 1 to 6 with the kernel (1, 2, 3): the first output is 1 * 1 + 2 * 2 + 3 * 3 = 14, and each next output is 6 more."""
    AT, G, BT = _matrices()
    line, kernel = torch.arange(1.0, 7.0).double(), torch.tensor([1.0, 2.0, 3.0]).double()
    torch.testing.assert_close(AT @ ((G @ kernel) * (BT @ line)), torch.tensor([14.0, 20.0, 26.0, 32.0]).double())


def test_a_batch_equals_its_images() -> None:
    layer, x = WinogradConv2d(_conv()), torch.randn(2, 24, 45, 50)
    torch.testing.assert_close(layer(x), torch.cat([layer(x[:1]), layer(x[1:])]), rtol=0, atol=0)


def test_input_in_any_memory_format_gives_output_in_channels_last() -> None:
    conv, wide = _conv(), torch.randn(1, 48, 90, 22)
    x = wide[:, ::2, 1::2].transpose(2, 3)
    assert not x.is_contiguous()
    y = WinogradConv2d(conv)(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert _deviation(y, _reference(conv, x)) < 1e-5


def test_input_and_earlier_results_stay_unchanged() -> None:
    layer, x = WinogradConv2d(_conv()), torch.randn(1, 24, 16, 16)
    before, first = x.clone(), layer(x)
    kept = first.clone()
    layer(torch.randn(1, 24, 16, 16))
    assert torch.equal(x, before)
    assert torch.equal(first, kept)


@pytest.mark.parametrize("size", [(16, 16), (10, 11)])
def test_fused_relu(size: tuple[int, int]) -> None:
    conv, x = _conv(), torch.randn(1, 24, *size)
    y = WinogradConv2d(conv, relu=True)(x)
    assert y.min() == 0
    assert _deviation(y, _reference(conv, x).relu()) < 1e-5


def test_without_bias() -> None:
    conv, x = _conv(bias=False), torch.randn(1, 24, 10, 11)
    assert _deviation(WinogradConv2d(conv)(x), _reference(conv, x)) < 1e-5


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(8, 8, 1, padding=1),
        nn.Conv2d(8, 8, 5, padding=1),
        nn.Conv2d(8, 8, 3),
        nn.Conv2d(8, 8, 3, stride=2, padding=1),
        nn.Conv2d(8, 8, 3, padding=1, dilation=2),
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"),
    ],
)
def test_refuses_other_convolutions(other: nn.Conv2d) -> None:
    with pytest.raises(ValueError, match="Expected a 3x3 convolution"):
        WinogradConv2d(other)


@pytest.mark.parametrize("x", [torch.randn(1, 23, 8, 8), torch.randn(24, 8, 8), torch.randn(1, 24, 8, 8).double()])
def test_refuses_other_input(x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"Expected \(N, 24, ny, nx\) of torch.float32"):
        WinogradConv2d(_conv())(x)


@pytest.mark.parametrize("size", [(16, 16), (10, 11), (3, 530), (61, 67)])
@pytest.mark.parametrize("learns", [True, False])
def test_gradients_are_those_of_the_direct_convolution(size: tuple[int, int], learns: bool) -> None:
    conv, x, pull = _conv(), torch.randn(2, 24, *size), torch.randn(2, 16, *size)
    conv.requires_grad_(learns)
    layer, own, other = WinogradConv2d(conv, relu=True), x.clone().requires_grad_(), x.double().requires_grad_()
    (layer(own) * pull).sum().backward()
    found = [own.grad, layer.weight.grad, None if layer.bias is None else layer.bias.grad]
    exact = _conv().double().requires_grad_(learns)
    (exact(other).relu() * pull).sum().backward()
    for ours, theirs in zip(found, [other.grad, exact.weight.grad, None if exact.bias is None else exact.bias.grad], strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            assert _deviation(ours, theirs) < 1e-5


def test_weights_keep_their_names_and_are_trained_in_place() -> None:
    network = nn.Sequential(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 4, 1))
    before, names = [id(one) for one in network.parameters()], list(network.state_dict())
    x = torch.randn(1, 256, 5, 6)
    expected = network(x)
    replace_wide(network)
    assert isinstance(network[0], WinogradConv2d) and isinstance(network[1], nn.Identity) and type(network[2]) is nn.Conv2d
    assert [id(one) for one in network.parameters()] == before and list(network.state_dict()) == names
    torch.testing.assert_close(network(x), expected, atol=2e-5, rtol=1e-4)
    with torch.no_grad():
        network[0].weight.zero_()
        torch.testing.assert_close(network[0](x)[0, :, 2, 3], network[0].bias.relu())


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("kind", [nn.Identity, WinogradConv2d])
def test_the_parts_of_a_convolution_add_up_to_it(kind: type[nn.Module], learns: bool) -> None:
    conv, x = _conv().requires_grad_(learns), torch.randn(2, 24, 9, 13)
    layer = conv if kind is nn.Identity else WinogradConv2d(conv)
    some, others, outputs = slice(7), slice(7, None), slice(4, 12)
    parts = convolve_part(layer, x[:, some], some, outputs) + convolve_part(layer, x[:, others], others, outputs, biased=False)
    assert _deviation(parts.detach(), _reference(conv, x)[:, outputs]) < 1e-5
    if learns:
        [found] = torch.autograd.grad(parts.square().sum(), conv.weight)
        [expected] = torch.autograd.grad(
            functional.conv2d(x, conv.weight, conv.bias, padding=1)[:, outputs].square().sum(), conv.weight
        )
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
