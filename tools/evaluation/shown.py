"""The measures that a table of scores shows: the rule and the overlap of AP, and AP of the parts of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.table import Table

from heal.alliance import Alliance
from heal.detection.metrics import IOU_KINDS, RULES, IouKind, Rule, ap_rule, ap_text
from heal.errors import UserError
from heal.measures.breakdown import EDGES_M, Part, parts_of
from heal.measures.matches import SceneMatches
from heal.tools.shared.type_argument import split_names

DISTANCES = ",".join(f"{edge:g}" for edge in EDGES_M)


@dataclass(frozen=True)
class Shown:
    """What is shown.

    Attributes:
        rule: order of the detections.
        iou: whether boxes overlap in bird's-eye view or in space.
        breakdown: whether AP is shown by distance, by who sees the vehicles, by the ego's type and by its sensors.
        edges_m: distances from the ego at which the ranges of the breakdown meet.
    """

    rule: Rule = "global"
    iou: IouKind = "bev"
    breakdown: bool = False
    edges_m: tuple[float, ...] = EDGES_M

    @staticmethod
    def parse(rule: str, iou: str, breakdown: bool, distances: str) -> Shown:
        """Read the options of a command line; UserError for a rule, an overlap or distances that there are not."""
        rules, kinds = {str(name): name for name in RULES}, {str(name): name for name in IOU_KINDS}
        if rule not in rules:
            raise UserError(f"--rule: expected {' or '.join(rules)}, got {rule!r}")
        if iou not in kinds:
            raise UserError(
                f"--iou: expected {' or '.join(kinds)}, got {iou!r}; thresholds are given to --thresholds of `heal score`"
            )
        return Shown(rules[rule], kinds[iou], breakdown, _edges_m(distances))

    @property
    def text(self) -> str:
        """The rule of AP in words."""
        return ap_rule(self.rule, self.iou)

    def breakdown_table(self, runs: Mapping[str, SceneMatches]) -> Table:
        """Make a table with one row for each part of each run."""
        first = next(iter(runs.values()))
        headings = [f"AP@{threshold:g}" for threshold in first.thresholds.tolist()]
        table = Table("run", "vehicles", *headings, "objects", title="AP of parts", caption=self.text)
        for name, matches in runs.items():
            for part in parts_of(matches, self.edges_m, self.rule, self.iou):
                table.add_row(name, _title(part), *map(ap_text, part.ap.values()), str(part.objects))
        return table


def sensor_kinds(alliance: Alliance) -> dict[str, str]:
    """Return the sensors of every agent type of an alliance, "lidar", "camera" or "lidar+camera", without loading a network."""
    return {name: alliance.agent_card(name).config.sensor.kind for name in (*alliance.agent_names, *alliance.unaligned)}


def _title(part: Part) -> str:
    """Return what a row shows."""
    return {"ego_type": f"ego {part.name}", "ego_sensor": f"ego with {part.name}"}.get(part.kind, part.name)


def _edges_m(text: str) -> tuple[float, ...]:
    """Read ascending distances; UserError for anything else."""
    try:
        edges = tuple(float(part) for part in split_names(text))
    except ValueError:
        edges = ()
    if not edges or any(not low < high for low, high in zip((0.0, *edges), edges, strict=False)):
        raise UserError(f"--distances {text!r}: expected ascending distances above 0 in metres, such as 30,50,100")
    return edges
