"""The compressor: the number of channels that cross the link, and ratios that are refused."""

import pytest
import torch

from heal.layers.compressor import Compressor, CompressorConfig


def test_a_quarter_of_the_channels_crosses_the_link() -> None:
    compressor, x = Compressor(CompressorConfig(channels=8, ratio=4)), torch.rand(2, 8, 5, 7)
    assert compressor.encoder(x).shape == (2, 2, 5, 7)
    assert compressor(x).shape == x.shape


def test_a_ratio_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="8 channels cannot be divided by 3"):
        CompressorConfig(channels=8, ratio=3)
