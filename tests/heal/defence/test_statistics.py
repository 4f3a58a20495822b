"""Statistics of honest maps: what lies outside of them, what does not, and how they are written into a record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from heal.config import ConfigError, load_config, save_config
from heal.defence.statistics import LevelStatistics, MapStatistics, channel_statistics, excess_of

COVERED = torch.ones(1, 1, 16, 16)


def honest(seed: int) -> Tensor:
    """Return a map of four channels with means 0 to 3 and spreads 1 to 4; each map is a little brighter or darker."""
    generator = torch.Generator().manual_seed(seed)
    channels = torch.arange(4.0)[None, :, None, None]
    brightness = 1 + 0.1 * torch.rand(1, generator=generator)
    return brightness * (channels + (channels + 1) * torch.randn(1, 4, 16, 16, generator=generator))


def rows_of(level: Tensor) -> Tensor:
    rows = channel_statistics(level, COVERED)
    assert rows is not None
    return rows


STATISTICS = LevelStatistics.of(torch.stack([rows_of(honest(seed)) for seed in range(100)]))


def test_the_statistics_of_a_channel_are_those_of_its_covered_cells() -> None:
    level, score = torch.zeros(1, 2, 10, 10), torch.zeros(1, 1, 10, 10)
    level[0, 0, :8], level[0, 1, :8, ::2], score[..., :8, :] = 5.0, 1.0, 0.3
    level[0, :, 8:] = 1e6  # not covered
    rows = channel_statistics(level, score)
    assert rows is not None
    torch.testing.assert_close(rows, torch.tensor([[5.0, 0.5], [0.0, 0.5032], [5.0, 1.0]]), atol=1e-4, rtol=0)
    assert channel_statistics(level, torch.zeros_like(score)) is None


def test_honest_maps_that_were_not_recorded_lie_inside() -> None:
    found = [excess_of(STATISTICS, honest(seed), COVERED) for seed in range(1000, 1100)]
    assert not any(excess is None or excess.is_too_large for excess in found)


@pytest.mark.parametrize(
    "lie",
    [
        lambda level: 3 * level,
        lambda level: -level,
        lambda level: 0 * level,
        lambda level: level.flip(1),
        lambda level: level + 1.0,
        lambda level: level * float("nan"),
        lambda level: level * float("inf"),
    ],
    ids=["times 3", "negated", "blank", "permuted", "offset", "not a number", "infinite"],
)
def test_a_changed_map_lies_outside(lie: Callable[[Tensor], Tensor]) -> None:
    excess = excess_of(STATISTICS, lie(honest(1)), COVERED)
    assert excess is not None and excess.is_too_large and "half ranges" in str(excess)


def test_a_single_cell_that_is_far_too_large_is_seen_and_an_empty_street_is_not_a_lie() -> None:
    level = honest(1)
    level[0, 2, 3, 3] = 200.0
    excess = excess_of(STATISTICS, level, COVERED)
    assert excess is not None and excess.is_too_large and excess.where == "the maximum of channel 2"
    quiet = honest(1).clamp(max=6.0)
    excess = excess_of(STATISTICS, quiet, COVERED)
    assert excess is not None and "maximum" not in excess.where


def test_of_a_map_that_was_sent_in_part_the_maxima_alone_count() -> None:
    level = honest(1)
    level[:, :, 4:] = 0
    parts = [excess_of(STATISTICS, factor * level, COVERED, whole=False) for factor in (1, 3)]
    assert [excess is not None and excess.is_too_large for excess in parts] == [False, True]


def test_a_record_keeps_the_statistics_and_refuses_others(tmp_path: Path) -> None:
    statistics = MapStatistics(maps=100, feature=STATISTICS, scales=(STATISTICS, STATISTICS), least_confirmed=0.4)
    save_config(statistics, tmp_path / "statistics.yaml")
    assert load_config(MapStatistics, tmp_path / "statistics.yaml") == statistics
    for rows in (("1 2", "1 2"), ("1 2", "1 2", "1"), ("1 2", "1 2", "1 x"), ("1 2", "1 2", "1 nan")):
        with pytest.raises(ConfigError, match="statistics: expected"):
            LevelStatistics(middle=rows, half_range=("1 1", "1 1", "1 1"))
    with pytest.raises(ConfigError, match="above 0"):
        LevelStatistics(middle=("1", "1", "1"), half_range=("1", "0", "1"))
