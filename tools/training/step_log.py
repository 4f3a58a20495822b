"""The log of a running training: one line for each step and each validation, in a file and in TensorBoard."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from heal.alliance import ValidationRecord
from heal.atomic_write import write_text
from heal.tools.training.loop import StepReport

LOG_NAME, BOARD_NAME = "metrics.jsonl", "tensorboard"


class StepLog:
    """Writes steps and validations to metrics.jsonl and to TensorBoard; drops old lines of steps that a resumed training repeats.

    Lines that a crash left incomplete are dropped, too.
    """

    def __init__(self, run: Path, first_step: int) -> None:
        """Open the log in the folder `run`.

        Args:
            run: run folder of the training.
            first_step: number of the first step that will be written; lines of this and later steps are dropped.
        """
        from torch.utils.tensorboard import SummaryWriter

        self._path = run / LOG_NAME
        kept = [row for row in map(_read_row, self._lines()) if row and row["step"] < first_step]
        write_text(self._path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = self._path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(run / BOARD_NAME), purge_step=first_step)

    def _lines(self) -> list[bytes]:
        return self._path.read_bytes().splitlines() if self._path.exists() else []

    def write(self, report: StepReport) -> None:
        """Append a step."""
        self._write({"step": report.step, "epoch": report.epoch, "learning_rate": report.learning_rate, **report.losses})
        for name, value in report.losses.items():
            self._board.add_scalar(f"loss/{name}", value, report.step)
        self._board.add_scalar("learning_rate", report.learning_rate, report.step)

    def write_validation(self, step: int, record: ValidationRecord) -> None:
        """Append the validation after a step, the last one of an epoch."""
        loss = record.loss if math.isfinite(record.loss) else None
        self._write({"step": step, "epoch": record.epoch - 1, "validation": {"loss": loss, "ap": dict(record.ap)}})
        self._board.add_scalar("validation/loss", record.loss, step)
        for threshold, ap in record.ap.items():
            if ap is not None:
                self._board.add_scalar(f"validation/ap_{threshold}", ap, step)

    def _write(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file and the TensorBoard log; both are flushed."""
        self._file.close()
        self._board.close()


def last_row(run: Path) -> dict[str, Any] | None:
    """Return the last complete line in the log of `run`, None without one; another process may be writing the log."""
    path = run / LOG_NAME
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().rpartition(b"\n")[0].splitlines()
    return _read_row(lines[-1]) if lines else None


def _read_row(line: bytes) -> dict[str, Any] | None:
    """Return the step of a line of the log; None if the line is not complete."""
    try:
        row: Any = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "step" in row else None
