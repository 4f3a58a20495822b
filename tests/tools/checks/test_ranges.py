"""A range that does not fit the networks is answered by the nearest one that does, ready to be copied."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heal.alliance import AllianceError, read_base_card
from heal.base_model import BaseConfig
from heal.errors import UserError
from heal.grid import BevGrid, Range
from heal.tools.checks.ranges import nearest_range, open_on_range
from heal.tools.shared.paths import CONFIGS
from tests.tools.command import run_command

DEMO = CONFIGS / "demo" / "alliance"
HALF = st.floats(0.5, 300)


@pytest.mark.parametrize(
    ("asked", "cause", "near"),
    [
        ((-50, -50, -3, 50, 50, 1), "125 cells; choose a multiple of 4 cells", "-49.6 -49.6 -3 49.6 49.6 1"),
        ((-51, -40, -3, 51, 40, 1), "127.500 cells of 0.8 m", "-51.2 -40 -3 51.2 40 1"),
        ((-51.2, -51.2, -3, 40, 51.2, 1), "must be centred on the agent", "-51.2 -51.2 -3 51.2 51.2 1"),
        ((-math.inf, -25.6, -3, math.inf, 25.6, 1), "all finite", "-51.2 -25.6 -3 51.2 25.6 1"),
        ((-25.6, -25.6, 2, 25.6, 25.6, 1), "must be x_min, y_min, z_min", "-25.6 -25.6 -3 25.6 25.6 1"),
        ((-0.8, -0.8, -3, 0.8, 0.8, 1), "2 cells", "-1.6 -1.6 -3 1.6 1.6 1"),
    ],
)
def test_the_nearest_range_that_fits_is_named(asked: Range, cause: str, near: str) -> None:
    with pytest.raises(
        UserError, match=rf"^--range-m: range_m .*{cause}.*; the nearest range that fits is --range-m {re.escape(near)}$"
    ):
        open_on_range(DEMO, asked)


@given(HALF, HALF)
def test_what_is_named_fits_and_is_near(x_m: float, y_m: float) -> None:
    """The demo's pyramid takes multiples of 4 cells of 0.8 m, so half of a length is at most 0.8 m off, but not below 1.6 m."""
    settings = read_base_card(DEMO).config
    found = nearest_range(settings, (-x_m, -y_m, -3, x_m, y_m, 1))
    BaseConfig(grid=BevGrid(found, 0.8), pyramid=settings.pyramid)
    assert abs(found[3] - x_m) <= 0.81 + 0.3 * (x_m < 0.8) and abs(found[4] - y_m) <= 0.81 + 0.3 * (y_m < 0.8)


def test_evaluate_refuses_the_range_before_it_reads_data(tmp_path: Path) -> None:
    common = ("evaluate", "--alliance", DEMO, "--data", tmp_path / "nowhere", "--out", tmp_path / "out")
    with pytest.raises(UserError, match=r"the nearest range that fits is --range-m -99.2 -40 -3 99.2 40 1$"):
        run_command(*common, "--range-m", -99, -40, -3, 99, 40, 1)
    with pytest.raises(AllianceError, match="not an alliance"):
        open_on_range(tmp_path, (-50, -50, -3, 50, 50, 1))
