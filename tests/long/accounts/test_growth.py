"""The slopes through the lives of processes: exact ones are found, whatever the level of a process, and noise is no growth."""

from __future__ import annotations

import numpy as np
import pytest

from tests.long.accounts.growth import LIMITS, Growth, Sample, Slope, _slope


def life(level: float, per_hour: float, noise: float = 0.0, minutes: int = 60, seed: int = 0) -> list[Sample]:
    draws = np.random.default_rng(seed)
    return [Sample(60.0 * i, level + per_hour * i / 60 + noise * draws.normal(), 7, 3) for i in range(minutes)]


def test_the_slope_is_that_of_all_lives_whatever_their_levels() -> None:
    slope = _slope([life(100, 12), life(900, 12, minutes=7), life(5, 12, minutes=3)], "memory_mib")
    assert slope.per_hour == pytest.approx(12) and slope.error == pytest.approx(0, abs=1e-9)
    assert slope.hours == pytest.approx(59 / 60) and slope.samples == 70
    assert _slope([life(100, 12)], "files") == Slope(0.0, 0.0, 59 / 60, 60)


def test_noise_is_no_growth_and_growth_is_found_in_noise() -> None:
    limit = LIMITS["memory_mib"]
    assert not any(_slope([life(100, 0, noise=20, seed=seed)], "memory_mib").exceeds(limit) for seed in range(20))
    assert all(_slope([life(100, 3 * limit, noise=20, seed=seed)], "memory_mib").exceeds(limit) for seed in range(20))


def test_a_short_life_may_load_what_it_needs() -> None:
    assert not Slope(per_hour=240.0, error=0.0, hours=0.02, samples=9).exceeds(30.0)
    assert Slope(per_hour=480.0, error=0.0, hours=0.02, samples=9).exceeds(30.0)


def test_this_process_is_sampled() -> None:
    growth = Growth(warm_up_s=0.0)
    for _ in range(4):
        growth.sample()
    slopes = growth.slopes()["driver"]
    assert set(slopes) == set(LIMITS) and slopes["threads"].samples == 4
