"""Channel compression of feature maps: fewer channels cross the link, and a decoder brings the others back."""

from __future__ import annotations

from torch import Tensor, nn


class Compressor(nn.Module):
    """An encoder for the sender's side of a link and a decoder for the receiver's."""

    def __init__(self, channels: int, ratio: int) -> None:
        """`channels` / `ratio` of them are sent; ValueError unless that is a whole number."""
        super().__init__()
        if ratio < 1 or channels % ratio:
            raise ValueError(f"compressor: {channels} channels cannot be divided by {ratio}; choose a divisor")
        self.encoder = nn.Sequential(*_layer(channels, channels // ratio))
        self.decoder = nn.Sequential(*_layer(channels // ratio, channels), *_layer(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ny, nx), same shape, as it comes out at the other end."""
        y: Tensor = self.decoder(self.encoder(x))
        return y


def _layer(in_channels: int, channels: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(in_channels, channels, 3, padding=1), nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01), nn.ReLU()
