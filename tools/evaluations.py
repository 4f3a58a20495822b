"""AP that an alliance carries with it: a file beside its folders, which `heal evaluate --record` writes and `heal info` shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from heal.tools.scoring import RunScore

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
