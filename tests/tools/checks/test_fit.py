"""A data set that does not fit an alliance is warned of in one line on the standard error output, with what mends it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from heal.agent_types import same_type
from heal.agents.options import RunOptions
from heal.alliance import Alliance, load_alliance
from heal.tools.checks.fit import DataFit
from heal.tools.cli import app
from heal.tools.shared.paths import CONFIGS
from heal.types import AgentFrame, LidarScan, SensorChoice
from tests.agents.tiny_run import TinySource, save_tiny_alliance
from tests.datasets.opv2v import opv2v_tree


@dataclass(frozen=True)
class StretchedSource(TinySource):
    """Clouds that reach 12 m, and -2.5 to 0.5 m in height, times a factor for each axis; for agent b alone."""

    factors: tuple[float, float, float] = (1, 1, 1)

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        frame = super().agent_frame(index, agent_id, choice)
        assert frame.lidar is not None
        factors = np.array([*(self.factors if agent_id == "b" else (1, 1, 1)), 1], np.float32)
        return replace(frame, lidar=LidarScan(frame.lidar.points * factors))


@pytest.fixture(scope="module")
def demo() -> Alliance:
    """Return the demo's alliance: 102.4 x 102.4 m, heights from -3 to 1 m."""
    return load_alliance(CONFIGS / "demo" / "alliance")


def warnings(fit: DataFit, source: TinySource) -> list[str]:
    return fit.warnings(source, range(5), same_type("m1"))


def test_what_fits_is_not_warned_of(demo: Alliance) -> None:
    assert warnings(DataFit(demo, RunOptions(), range_option=True), TinySource()) == []
    assert warnings(DataFit(demo, RunOptions()), StretchedSource(factors=(4.5, 4.5, 1))) == []


def test_a_range_that_leaves_points_out_is_answered_by_one_that_does_not(demo: Alliance) -> None:
    """Of points within 120 x 36 m on each side, 43 % lie within 51.2 m; 95 % lie within 114 m, the next range is 113.6 m."""
    source = StretchedSource(factors=(10, 3, 1))
    [text] = warnings(DataFit(demo, RunOptions(), range_option=True), source)
    assert "% of the LiDAR points of agent b lie in the alliance's range of 102.4 x 102.4 m; --range-m -11" in text
    x_m = float(text.split()[-5])
    assert text.endswith(f" -3 {x_m:g} 51.2 1 covers more") and x_m == pytest.approx(114, abs=3)
    assert warnings(DataFit(demo, RunOptions(), range_chosen=True, range_option=True), source) == []
    [text] = warnings(DataFit(demo, RunOptions()), source)
    assert "`heal train base --init" in text and f"base.grid.range_m=[-{x_m:g},-51.2,-3,{x_m:g},51.2,1]` fits them" in text
    [text] = warnings(DataFit(demo, RunOptions()), StretchedSource(factors=(1000, 1000, 1)))
    assert text.startswith("0% of the LiDAR points") and text.endswith("; expected coordinates in metres")


def test_heights_beyond_those_of_the_networks_are_told(demo: Alliance) -> None:
    """Of heights from -12.5 to 2.5 m, 27 % lie between -3 and 1 m."""
    [text] = warnings(DataFit(demo, RunOptions()), StretchedSource(factors=(1, 1, 5)))
    assert "of the LiDAR points of agent b lie at the heights of the alliance, -3 to 1 m from the sensor; `heal train base" in text
    assert 20 <= int(text.split("%")[0]) <= 34


def test_a_communication_range_that_reaches_nobody_is_told(demo: Alliance) -> None:
    """The agents stand 80 m apart: b is 80 m from the ego, c 160 m."""
    source = TinySource(spacing_m=80)
    [text] = warnings(DataFit(demo, RunOptions()), source)
    assert "within --comm-range-m 70 of the ego in the 3 scenes that were looked at, the nearest is 80 m away" in text
    assert text.endswith("; --comm-range-m 170 reaches all")
    for options in (RunOptions(comm_range_m=81), RunOptions(agents=1), RunOptions(region_m=50)):
        assert warnings(DataFit(demo, options), source) == []


@pytest.mark.parametrize(
    "command", [("evaluate", "--pictures", "0", "--threads", "1", "--data"), ("simulate", "--runtime", "local", "--source")]
)
def test_the_commands_warn_in_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    root, alliance = opv2v_tree.write_tree(tmp_path), save_tiny_alliance(tmp_path / "alliance")
    paths = (str(root), "--alliance", str(alliance), "--out", str(tmp_path / "out"), "--overwrite")
    said = [CliRunner().invoke(app, [*command, *paths, "--comm-range-m", metres], catch_exceptions=False) for metres in ("5", "12")]
    assert [one.stderr.count("warning: no other agent is within --comm-range-m 5 of the ego") for one in said] == [1, 0]
    assert [one.exit_code for one in said] == [0, 0] and "warning: no other" not in said[0].stdout
