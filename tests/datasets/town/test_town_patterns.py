"""Random patterns and rows of colours: faster forms give the numbers of plain ones, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from heal.datasets.town.sensors.patterns import _noise_table, smooth_noise
from heal.datasets.town.sensors.rows import dot_rows, put_rows, take_rows, tinted


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_smooth_noise_interpolates_between_four_places_of_its_table(kind: type[np.floating]) -> None:
    rng, table = np.random.default_rng(3), _noise_table()
    x, y = (rng.uniform(-3, 3, 500).astype(kind) for _ in range(2))
    x[:4], y[:4] = (0.0, 1.0, -1e-9, 0.999999999), (-1e-12, 2.5, 0.25, 511 / 512)
    column, row = np.mod(x, 1.0) * 512, np.mod(y, 1.0) * 512
    i, j = column.astype(int) % 512, row.astype(int) % 512
    a, b = np.mod(column, 1.0).astype(np.float32), np.mod(row, 1.0).astype(np.float32)
    upper = table[j, i] * (1 - a) + table[j, (i + 1) % 512] * a
    lower = table[(j + 1) % 512, i] * (1 - a) + table[(j + 1) % 512, (i + 1) % 512] * a
    np.testing.assert_array_equal(smooth_noise(x, y), upper * (1 - b) + lower * b)
    assert smooth_noise(x, y).dtype == np.float32


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_rows_are_the_same_however_they_are_stored(rows: int, order: str) -> None:
    rng = np.random.default_rng(rows)
    values = np.array(rng.random((20, 3), np.float32), order=order)  # type: ignore[call-overload]
    index = rng.permutation(20)[:rows]
    taken = take_rows(values, index)
    np.testing.assert_array_equal(taken, values[index])
    assert taken.flags.f_contiguous
    expected = values.copy()
    expected[index] = 2 * values[index]
    put_rows(values, index, 2 * taken)
    np.testing.assert_array_equal(values, expected)
    colour = rng.random(3, np.float32)
    np.testing.assert_array_equal(dot_rows(taken, colour), np.ascontiguousarray(taken) @ colour)
    strengths = rng.random(rows, np.float32)
    np.testing.assert_array_equal(tinted(strengths, colour), strengths[:, None] * colour)
