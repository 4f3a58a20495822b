"""The laser lines of a command line: the text of `--lines` read, and refused where the types or the data have no such clouds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from heal.agents.options import RunOptions
from heal.alliance import Alliance
from heal.datasets.dataset import Dataset
from heal.errors import UserError
from heal.types import BEAMS, SceneSource


def parse_lines(text: str | None) -> dict[str, int]:
    """Read lines by agent type, such as "m1=32,m3=16"; empty without a text; UserError for another form."""
    lines: dict[str, int] = {}
    for part in text.split(",") if text else []:
        name, _, count = (piece.strip() for piece in part.partition("="))
        if not name or not count.isdigit() or name in lines:
            raise UserError(f"--lines {text!r}: expected TYPE=LINES, each type once, such as m1=32,m3=16; got {part.strip()!r}")
        lines[name] = int(count)
    return lines


def require_lines(lines: Mapping[str, int], alliance: Alliance, source: SceneSource) -> None:
    """Check that the types have a LiDAR, and that the data have clouds of these lines; the town thins its clouds as it is asked.

    Raises:
        AllianceError: the alliance lacks a type.
        UserError: a type has no LiDAR, or the data have no such clouds; the message names the lines that they have.
    """
    for name, count in lines.items():
        if not alliance.agent(name).sensor.lidar:
            raise UserError(f"{name}={count} laser lines: agents of type {name} have no LiDAR")
        if isinstance(source, Dataset) and count not in source.beams:
            raise UserError(f"{name}={count} laser lines: {source.summary.root} has {_text(source.beams)}; choose among these")


def lidar_lines_of(alliance: Alliance, options: RunOptions, types: Iterable[str]) -> dict[str, int]:
    """Return the laser lines of the clouds that agents of some types read in a run, by type; types without a LiDAR are left out.

    Raises:
        UserError: the options name lines of another type, which would change nothing.
    """
    sensors = {name: options.sensor_of(name, alliance.agent(name).sensor) for name in types}
    for name in options.lidar_lines:
        if name not in sensors:
            raise UserError(
                f"{name}={options.lidar_lines[name]} laser lines: no agent has the type {name}; there are {', '.join(sensors)}"
            )
    return {name: sensor.beams for name, sensor in sensors.items() if sensor.lidar}


def _text(beams: tuple[int, ...]) -> str:
    """Return which clouds there are."""
    thinned = [str(count) for count in beams if count != BEAMS[-1]]
    own = f"the agents' own clouds ({BEAMS[-1]})"
    return f"{own} and clouds of {' and '.join(thinned)} lines" if thinned else f"only {own}"
