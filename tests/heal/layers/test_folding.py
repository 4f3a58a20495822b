"""Norms are folded only where the order of the layers is known; any other network computes the same numbers as before."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from heal.agent_model import AgentConfig
from heal.aligners.aligner import ALIGNERS, Aligner
from heal.config import build_config
from heal.encoders.lift_splat_trunk import ImageTrunk
from heal.layers.inference import for_inference
from heal.layers.residual import BasicBlock
from tests.heal.networks import with_random_norms

WIDTH = 6


class NormFirst(nn.Module):
    """A user's block that registers a norm behind a convolution, but applies the norm first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(self.norm(x))
        return y


class OutputUsedTwice(NormFirst):
    """A block whose convolution's output is used before the norm too."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y + torch.relu(self.norm(y))


class Backwards(nn.Sequential):
    """A row of layers that runs from the last to the first."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in reversed(self):
            x = layer(x)
        return x


class NormFirstResidual(BasicBlock):
    """A block derived from ours, in another order."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.bn2(self.conv1(self.bn1(x))))


class ScaledConv(nn.Conv2d):
    """A convolution that changes its kernel first."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight / self.weight.std(), self.bias)


class Trunk(nn.Module):
    """The trunk of another library, which can be checked by an example."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def folding_example(self) -> Tensor:
        return torch.linspace(-1, 1, WIDTH * 64, dtype=torch.float64).sin().reshape(1, WIDTH, 8, 8)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.net(x)]


def conv() -> nn.Conv2d:
    return nn.Conv2d(WIDTH, WIDTH, 3, padding=1)


def relu_between() -> nn.Module:
    """A row in which one ReLU is registered twice, once between a convolution and a norm."""
    relu = nn.ReLU()
    return nn.Sequential(relu, conv(), relu, nn.BatchNorm2d(WIDTH))


def norm_again_before_relu() -> nn.Module:
    """A row with wide convolutions in which one norm is registered twice, once between a convolution and a ReLU."""
    norm = nn.BatchNorm2d(256)
    return nn.Sequential(nn.Conv2d(WIDTH, 256, 1), nn.GELU(), norm, nn.Conv2d(256, 256, 3, padding=1), norm, nn.ReLU())


ODD = {
    "norm first": NormFirst,
    "output used twice": OutputUsedTwice,
    "backwards": lambda: Backwards(conv(), nn.BatchNorm2d(WIDTH)),
    "derived from ours": lambda: NormFirstResidual(WIDTH, WIDTH, 1),
    "ReLU between": relu_between,
    "one norm twice": norm_again_before_relu,
    "own kernel": lambda: nn.Sequential(ScaledConv(WIDTH, WIDTH, 1), nn.BatchNorm2d(WIDTH)),
    "weight norm": lambda: nn.Sequential(parametrizations.weight_norm(conv()), nn.BatchNorm2d(WIDTH)),
    "no statistics": lambda: nn.Sequential(conv(), nn.BatchNorm2d(WIDTH, track_running_stats=False)),
    "another library's": lambda: Trunk(NormFirst()),
}


def largest_deviation(network: nn.Module) -> float:
    """Return the largest difference between a network and its fast copy, as a share of the largest value."""
    with_random_norms(network).eval()
    fast, x = for_inference(network), torch.randn(2, WIDTH, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        one, other = (net(x)[0] if isinstance(net, Trunk) else net(x) for net in (network, fast))
    return float((one - other).abs().max() / one.abs().max())


@pytest.mark.parametrize("name", ODD)
def test_a_network_in_another_order_computes_the_same(name: str) -> None:
    torch.manual_seed(0)
    assert largest_deviation(ODD[name]()) < 1e-5


@pytest.mark.parametrize("kind", ALIGNERS)
def test_every_aligner_computes_the_same(kind: str) -> None:
    torch.manual_seed(0)
    aligner = with_random_norms(Aligner(build_config(AgentConfig, {"aligner": {"kind": kind}}).aligner, 32)).eval()
    maps = torch.randn(1, 32, 8, 8)
    with torch.no_grad():
        expected, found = aligner(maps), for_inference(aligner)(maps)
    assert float((expected - found).abs().max() / expected.abs().max()) < 1e-5


def norms(network: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in for_inference(network).modules())


def test_our_blocks_plain_rows_and_checked_trunks_are_folded() -> None:
    assert norms(BasicBlock(WIDTH, 8, 2)) == 0
    assert norms(nn.Sequential(conv(), nn.BatchNorm2d(WIDTH), nn.ReLU())) == 0
    assert norms(NormFirst()) == 1
    torch.manual_seed(0)
    in_order = with_random_norms(nn.Sequential(InOrder(), InOrder())).eval()
    assert norms(in_order) == 2 and norms(Trunk(in_order)) == 0 and largest_deviation(Trunk(in_order)) < 1e-5


class InOrder(NormFirst):
    """A block of another library, in the usual order."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x))
        return y


def test_a_published_trunk_is_checked_without_random_numbers() -> None:
    trunk = with_random_norms(ImageTrunk("resnet18", (8, 16), 0.0, 0.01, classifier=False)).eval()
    before = torch.get_rng_state()
    assert norms(trunk) == 0 and torch.equal(torch.get_rng_state(), before)
    assert torch.equal(trunk.folding_example(), trunk.folding_example())
