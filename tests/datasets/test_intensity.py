"""Intensities: the scale that a data set's values show, the scaling, and the red byte of packed colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from heal.datasets.intensity import Defects, common_top, red_from_rgb, to_unit

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("top", [100, 255, 1023, 4095, 65535])
@pytest.mark.parametrize("size", [4, 10_000])
@pytest.mark.parametrize("integers", [True, False])
def test_a_scale_is_known_by_its_values(top: int, size: int, integers: bool) -> None:
    values = np.rint(np.linspace(0, top, size))
    assert common_top(values, integers) == top


@pytest.mark.parametrize("odd", [1.02, 1.5, 37.0, 255.0, 1e9])
def test_odd_values_do_not_change_the_scale_of_floats_up_to_one(odd: float) -> None:
    assert common_top(np.array([odd, 0.4, 0.2, 0.1]), integers=False) == 1.0
    assert common_top(np.append(RNG.random(10_000), [odd] * 100), integers=False) == 1.0


@pytest.mark.parametrize("odd", [256.0, 300.0, 5000.0, 1e9])
def test_odd_values_do_not_change_the_scale_of_bytes(odd: float) -> None:
    assert common_top(np.array([odd, 204, 102, 51, 0]), integers=False) == 255.0
    assert common_top(np.append(RNG.integers(0, 256, 10_000), [odd] * 10), integers=True) == 255.0


@pytest.mark.parametrize("values", [[-60.0, -30.0, -10.0], [1e6, 5e5, 2e5], [-1.0, -0.5, 0.5, 1.0]])
def test_values_on_no_common_scale_are_not_guessed(values: list[float]) -> None:
    assert common_top(np.array(values), integers=False) is None


def test_dark_sets_of_both_kinds_keep_their_scale() -> None:
    assert common_top(np.array([0, 1, 2, 3]), integers=True) == 255.0
    assert common_top(np.array([0.0, 1.0, 2.0, 3.0]), integers=False) == 255.0
    assert common_top(np.array([0.0, 0.0, 0.002]), integers=False) == 1.0


def test_distinct_values_stay_distinct() -> None:
    raw = np.arange(65536, dtype=np.uint16)
    unit, defects = to_unit(raw, 65535.0)
    assert len(np.unique(unit)) == 65536 and unit[-1] == 1.0 and defects == Defects()


def test_values_that_are_not_taken_as_they_are_get_counted() -> None:
    raw = np.array([np.nan, np.inf, -np.inf, 1.02, *[0.5] * 16], np.float32)
    unit, defects = to_unit(raw, 1.0)
    np.testing.assert_array_equal(unit, [0.0, 1.0, 0.0, 1.0, *[0.5] * 16])
    assert defects == Defects(missing=1, outside=3)


def test_a_sweep_on_another_scale_is_refused_with_its_range() -> None:
    with pytest.raises(
        ValueError, match="3 of 4 intensities lie beyond the data set's scale 0 to 1; found 0 to 255; give open_dataset"
    ):
        to_unit(np.array([255.0, 128.0, 25.0, 0.0], np.float32), 1.0)


def test_red_is_read_from_floats_and_integers_alike() -> None:
    bits = np.array([0x00AB0000, 0x00123456, 0xFF7F0001], np.uint32)
    expected = np.array([0xAB, 0x12, 0x7F]) / 255
    np.testing.assert_allclose(red_from_rgb(bits), expected, atol=1e-7)
    np.testing.assert_allclose(red_from_rgb(bits.view(np.int32)), expected, atol=1e-7)
    np.testing.assert_allclose(red_from_rgb(bits.view(np.float32)), expected, atol=1e-7)


@pytest.mark.parametrize("alpha", [0x00, 0x3F, 0x7F, 0x80, 0xFE, 0xFF])
@pytest.mark.parametrize("flush", [False, True])
def test_alpha_changes_nothing_in_printed_colours(alpha: int, flush: bool) -> None:
    red = np.array([0, 1, 100, 127], np.uint32)
    bits = np.uint32(alpha << 24) | red << 16
    printed = np.array([float(f"{value:.10g}") for value in bits.view(np.float32)])
    expected = red.astype(np.float32) / np.float32(255)
    try:
        torch.set_flush_denormal(flush)
        np.testing.assert_array_equal(red_from_rgb(printed), expected)
        np.testing.assert_array_equal(red_from_rgb(bits.astype(np.float64), np.dtype("<u4")), expected)
        np.testing.assert_array_equal(red_from_rgb(bits.view(np.int32).astype(np.float64), np.dtype("<i4")), expected)
    finally:
        torch.set_flush_denormal(False)
