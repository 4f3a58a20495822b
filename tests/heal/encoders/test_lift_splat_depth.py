"""Depth bins: every depth falls into the bin that begins before it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heal.encoders.lift_splat_depth import DepthBinsConfig, bin_depths, depth_to_bins, sample_at_features

SPACINGS = ("linear", "uniform", "log")


@given(st.sampled_from(SPACINGS), st.floats(0.5, 5.0), st.floats(10.0, 120.0), st.integers(2, 100))
def test_a_depth_falls_into_the_bin_that_begins_before_it(spacing: str, start: float, end: float, count: int) -> None:
    settings = DepthBinsConfig(start_m=start, end_m=end, count=count, spacing=spacing)  # type: ignore[arg-type]
    begins = bin_depths(settings).double()
    ends = torch.cat([begins[1:], torch.tensor([end], dtype=torch.float64)])
    assert (ends > begins).all()
    middle = (begins + ends) / 2
    assert depth_to_bins(middle, settings).tolist() == list(range(count))
    assert depth_to_bins(middle, settings, compat_heal=True).tolist() == list(range(count))


@pytest.mark.parametrize("spacing", SPACINGS)
def test_near_depths_fall_into_the_first_bin_far_and_unmeasured_ones_into_the_last(spacing: str) -> None:
    settings = DepthBinsConfig(spacing=spacing)  # type: ignore[arg-type]
    depth_m = torch.tensor([0.3, 1.9, 50.0, 1000.0, torch.inf, 0.0, -1.0, torch.nan])
    assert depth_to_bins(depth_m, settings).tolist() == [0, 0, 47, 47, 47, 47, 47, 47]


def test_compat_heal_puts_near_depths_into_the_last_bin() -> None:
    settings = DepthBinsConfig()
    assert depth_to_bins(torch.tensor([0.3, 1.9, 5.0]), settings, compat_heal=True).tolist() == [47, 47, 11]
    assert depth_to_bins(torch.tensor([0.3, 1.9, 5.0]), settings).tolist() == [0, 0, 11]


def test_a_feature_takes_the_depth_at_its_middle() -> None:
    depth_m = torch.arange(16 * 24.0).view(1, 16, 24)
    assert sample_at_features(depth_m, 8)[0].tolist() == [
        [4 * 24 + 4, 4 * 24 + 12, 4 * 24 + 20],
        [12 * 24 + 4, 12 * 24 + 12, 12 * 24 + 20],
    ]


def test_impossible_bins_are_refused() -> None:
    for start, end, count in ((0.0, 50.0, 48), (5.0, 5.0, 48), (2.0, 50.0, 0)):
        with pytest.raises(ValueError, match="0 < start_m < end_m"):
            DepthBinsConfig(start_m=start, end_m=end, count=count)
