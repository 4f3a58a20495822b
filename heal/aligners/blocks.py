"""The common form of most aligners: a row of blocks."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn


class BlockAligner(nn.Module):
    """Blocks in a row; each keeps the shape of a map."""

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        """Take over the blocks, in this order; their parameters are named `model.0...`, `model.1...` and so on."""
        super().__init__()
        self.model = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, ny, nx) to the same shape."""
        y: Tensor = self.model(x)
        return y
