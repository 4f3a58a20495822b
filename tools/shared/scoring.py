"""What a run is worth: AP, recall of vehicles hidden from the ego, bytes; as numbers, as a table, as metrics.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from heal.agents.records import TickResult
from heal.datasets.visibility import SceneVisibility
from heal.detection.metrics import AP_RULE, ApAccumulator, ApResult, Recall, recall_of

HIDDEN_IOU = 0.5


@dataclass
class RunScore:
    """Adds up the ticks of a run.

    Attributes:
        range_m: of the evaluation, in the ego's frame.
        ap: over all ticks so far.
        hidden: found at IoU 0.5 of the vehicles on which the ego has fewer than 5 points, and another agent more than 20.
        frames: number of ticks.
        agents: most agents that took part in a tick.
        messages: number of messages sent; the ego's own, which stays on board, is none.
        message_bytes: their bytes in all.
    """

    range_m: tuple[float, ...]
    ap: ApAccumulator = field(default_factory=ApAccumulator)
    hidden: Recall = field(default_factory=Recall)
    frames: int = 0
    agents: int = 0
    messages: int = 0
    message_bytes: int = 0

    def add(self, result: TickResult, visibility: SceneVisibility | None = None) -> None:
        """Add a tick; `visibility` says which of its vehicles are hidden from the ego, where that is known."""
        self.ap.add_match(result.match)
        sent = [record for record in result.messages if record.size_bytes and not record.own]
        self.frames += 1
        self.agents = max(self.agents, len(result.messages))
        self.messages += len(sent)
        self.message_bytes += sum(record.size_bytes for record in sent)
        if visibility is not None:
            hidden_ids = torch.from_numpy(visibility.ids[visibility.hidden])
            mask = torch.isin(result.ground_truth.ids, hidden_ids)
            self.hidden = self.hidden + recall_of(result.detections, result.ground_truth, mask, HIDDEN_IOU)

    def results(self) -> ApResult:
        """AP with its curves."""
        return self.ap.results()

    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json."""
        result = self.results()
        return {
            "ap": {str(threshold): value for threshold, value in result.ap.items()},
            "rule": AP_RULE,
            "range_m": list(self.range_m),
            "frames": self.frames,
            "agents": self.agents,
            "ground_truths": result.ground_truths,
            "bytes_per_message": round(self.message_bytes / max(self.messages, 1)),
            "hidden_from_ego": {"vehicles": self.hidden.objects, "recall": self.hidden.value if self.hidden.objects else None},
        }


def spread(ticks: Sequence[int], count: int) -> list[int]:
    """At most `count` of the ticks, evenly."""
    count = min(count, len(ticks))
    return [ticks[i * len(ticks) // count] for i in range(count)]


def score_table(scores: dict[str, RunScore], title: str) -> Table:
    """One row for each named run."""
    table = Table("", "AP@0.3", "AP@0.5", "AP@0.7", "recall of hidden", "frames", "kB per message", title=title)
    for name, score in scores.items():
        ap = [f"{value:.3f}" for value in score.results().ap.values()]
        hidden = f"{score.hidden.value:.2f} of {score.hidden.objects}" if score.hidden.objects else "-"
        size = f"{score.message_bytes / score.messages / 1e3:.0f}" if score.messages else "-"
        table.add_row(name, *ap, hidden, str(score.frames), size)
    table.caption = f"{AP_RULE}; range {', '.join(f'{value:g}' for value in next(iter(scores.values())).range_m)} m"
    return table


def write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Write metrics as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


FILE_NAME = "evaluations.json"


def record(alliance: Path, data: str, rows: Mapping[str, RunScore]) -> None:
    """Write what was reached on `data`, by the name of each run; what stood there for the same data is replaced."""
    known = read(alliance)
    known[data] = {name: {key: score.metrics()[key] for key in ("ap", "frames", "range_m")} for name, score in rows.items()}
    (alliance / FILE_NAME).write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


def read(alliance: Path) -> dict[str, Any]:
    """By data and run what was recorded; empty without a file."""
    path = alliance / FILE_NAME
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def evaluations_table(alliance: Path) -> Table | None:
    """What was recorded, as a table; None if nothing was."""
    known = read(alliance)
    if not known:
        return None
    table = Table("evaluated on", "agents", "AP@0.3", "AP@0.5", "AP@0.7", "frames")
    for data, rows in known.items():
        for name, row in rows.items():
            table.add_row(data, name, *(f"{value:.3f}" for value in row["ap"].values()), str(row["frames"]))
    return table
