"""The tiny alliance with compressors of random weights, for tests of the run."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from heal.layers.compressor import Compressor, CompressorConfig
from heal.storage.compressors import StoredCompressor
from tests.agents.tiny_run import TinyAlliance
from tests.heal.networks import with_random_norms


class CompressingAlliance(TinyAlliance):
    """The tiny alliance with a compressor for each ratio; all have the same weights every time."""

    def __init__(self, *ratios: int, trust: Mapping[str, float] | None = None) -> None:
        super().__init__(trust=trust)
        self.compressors = {ratio: _compressor(ratio) for ratio in ratios}


def _compressor(ratio: int) -> StoredCompressor:
    with torch.random.fork_rng():
        torch.manual_seed(ratio)
        network = with_random_norms(Compressor(CompressorConfig(channels=8, ratio=ratio))).eval().requires_grad_(False)
    assert isinstance(network, Compressor)
    return StoredCompressor(f"{ratio:064x}", network)
