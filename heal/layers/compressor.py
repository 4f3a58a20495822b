"""Channel compression of feature maps: fewer channels cross the link, and a decoder restores the full width."""

from __future__ import annotations

from torch import Tensor, nn

from heal.errors import UserError


class Compressor(nn.Module):
    """An encoder for the sender's side of a link and a decoder for the receiver's side."""

    def __init__(self, channels: int, ratio: int) -> None:
        """Make both sides for maps of `channels` channels, of which `channels` / `ratio` are sent.

        Raises:
            ValueError: `ratio` does not divide `channels`.
        """
        super().__init__()
        if ratio < 1 or channels % ratio:
            raise UserError(f"compressor: {channels} channels cannot be divided by {ratio}; choose a divisor")
        self.encoder = nn.Sequential(*_layer(channels, channels // ratio))
        self.decoder = nn.Sequential(*_layer(channels // ratio, channels), *_layer(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Compress and restore maps (N, C, ny, nx): return the maps that the receiver decodes, of the same shape."""
        y: Tensor = self.decoder(self.encoder(x))
        return y


def _layer(in_channels: int, channels: int) -> tuple[nn.Module, ...]:
    """Return a 3x3 convolution, a batch norm and a ReLU."""
    return nn.Conv2d(in_channels, channels, 3, padding=1), nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01), nn.ReLU()
