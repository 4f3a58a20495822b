"""Channel compression of feature maps: fewer channels cross the link, and a decoder restores the full width."""

from __future__ import annotations

from torch import Tensor, nn

from heal.config import config
from heal.errors import UserError


@config
class CompressorConfig:
    """The size of a compressor.

    Attributes:
        channels: of the maps.
        ratio: of these channels, `channels` / `ratio` are sent.
    """

    channels: int
    ratio: int

    def __post_init__(self) -> None:
        """Raise UserError if the ratio does not divide the channels."""
        if self.ratio < 1 or self.channels < 1 or self.channels % self.ratio:
            raise UserError(f"compressor: {self.channels} channels cannot be divided by {self.ratio}; choose a divisor")

    @property
    def sent_channels(self) -> int:
        """Number of channels that cross the link."""
        return self.channels // self.ratio


class Compressor(nn.Module):
    """An encoder for the sender's side of a link and a decoder for the receiver's side."""

    def __init__(self, settings: CompressorConfig) -> None:
        """Make both sides with random weights."""
        super().__init__()
        self.config = settings
        channels, sent = settings.channels, settings.sent_channels
        self.encoder = nn.Sequential(*_layer(channels, sent))
        self.decoder = nn.Sequential(*_layer(sent, channels), *_layer(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Compress and restore maps (N, C, ny, nx): return the maps that the receiver decodes, of the same shape."""
        y: Tensor = self.decoder(self.encoder(x))
        return y


def _layer(in_channels: int, channels: int) -> tuple[nn.Module, ...]:
    """Return a 3x3 convolution, a batch norm and a ReLU."""
    return nn.Conv2d(in_channels, channels, 3, padding=1), nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01), nn.ReLU()
