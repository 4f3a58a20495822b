"""A recorded link: a CSV file with delay, loss and rate over time becomes a step function that repeats when it ends."""

from __future__ import annotations

import csv
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

COLUMNS = ("time", "delay", "loss", "rate")
MIN_MBIT_S = 0.001


@dataclass(frozen=True)
class TraceRow:
    """The link from one time on.

    Attributes:
        time_s: since the begin of the trace.
        delay_ms: of a message that is sent then.
        loss: probability in [0, 1] that a message is lost.
        rate_mbit_s: how fast it is; None for no limit.
    """

    time_s: float
    delay_ms: float
    loss: float
    rate_mbit_s: float | None

    def __post_init__(self) -> None:
        """Check ranges; the negated forms also refuse NaN."""
        if not 0 <= self.time_s < math.inf:
            raise ValueError(f"time: expected seconds >= 0, got {self.time_s}")
        if not 0 <= self.delay_ms < math.inf:
            raise ValueError(f"delay: expected milliseconds >= 0, got {self.delay_ms}")
        if not 0 <= self.loss <= 1:
            raise ValueError(f"loss: expected a probability in [0, 1], got {self.loss}")
        if self.rate_mbit_s is not None and not MIN_MBIT_S <= self.rate_mbit_s < math.inf:
            raise ValueError(f"rate: expected Mbit/s >= {MIN_MBIT_S}, or nothing for no limit, got {self.rate_mbit_s}")

    @property
    def start_ns(self) -> int:
        """Its time in nanoseconds."""
        return round(self.time_s * 1e9)


@dataclass(frozen=True)
class Trace:
    """A step function of time. The last row lasts as long as the one before it; then the trace begins again.

    Attributes:
        rows: in the order of their times, the first one at 0.
    """

    rows: tuple[TraceRow, ...]

    def __post_init__(self) -> None:
        """Check the times."""
        if not self.rows:
            raise ValueError("a trace needs at least one row")
        for last, row in zip((None, *self.rows), self.rows, strict=False):
            _require_order(last, row)

    @staticmethod
    def read(path: Path) -> Trace:
        """Read a file with the header time,delay,loss,rate: s, ms, probability, Mbit/s.

        Raises:
            ValueError: naming the file, and the line where it is one line that is wrong.
        """
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = tuple(_rows(path, file))
        except OSError as error:
            raise ValueError(f"trace {path}: cannot be read: {error.strerror}") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"trace {path}: expected a CSV file in UTF-8: {error}") from error
        if not rows:
            raise ValueError(f"trace {path}: expected rows below the header, there are none")
        return Trace(rows)

    @property
    def has_rate(self) -> bool:
        """Whether it limits the rate anywhere."""
        return any(row.rate_mbit_s is not None for row in self.rows)

    def at(self, time_ns: int) -> TraceRow:
        """The row that holds at a time."""
        return self.rows[self._place(time_ns)[0]]

    def finish_ns(self, start_ns: int, size_bytes: int) -> int:
        """When a message is through whose transmission begins at `start_ns`, at the rates of all rows that it takes."""
        bits, now_ns = 8.0 * size_bytes, start_ns
        while True:
            place, end_ns = self._place(now_ns)
            rate = self.rows[place].rate_mbit_s
            if rate is None:
                return now_ns
            fits = (end_ns - now_ns) * rate / 1e3
            if bits <= fits:
                return now_ns + math.ceil(bits * 1e3 / rate)
            bits, now_ns = bits - fits, end_ns

    @cached_property
    def _starts_ns(self) -> list[int]:
        return [row.start_ns for row in self.rows]

    @cached_property
    def _period_ns(self) -> int:
        starts_ns = self._starts_ns
        return 2 * starts_ns[-1] - starts_ns[-2] if len(starts_ns) > 1 else 1_000_000_000

    def _place(self, time_ns: int) -> tuple[int, int]:
        """Which row holds at a time, and until when."""
        rounds, within_ns = divmod(time_ns, self._period_ns)
        place = bisect_right(self._starts_ns, within_ns) - 1
        end_ns = self._starts_ns[place + 1] if place + 1 < len(self.rows) else self._period_ns
        return place, rounds * self._period_ns + end_ns


def _require_order(last: TraceRow | None, row: TraceRow) -> None:
    if last is None and row.start_ns != 0:
        raise ValueError(f"time: expected 0 in the first row, got {row.time_s}")
    if last is not None and row.start_ns <= last.start_ns:
        raise ValueError(f"time: expected more than the {last.time_s} of the row before, got {row.time_s}")


def _rows(path: Path, lines: Iterable[str]) -> Iterator[TraceRow]:
    """The rows of a file; each is compared with the one before, so that the line at fault is named."""
    reader, last = csv.reader(lines), None
    header = next(reader, [])
    if tuple(name.strip() for name in header) != COLUMNS:
        raise ValueError(f"trace {path}, line 1: expected the header {','.join(COLUMNS)}, got {','.join(header)!r}")
    for values in reader:
        if not values:
            continue
        try:
            row = _row(values)
            _require_order(last, row)
        except ValueError as error:
            raise ValueError(f"trace {path}, line {reader.line_num}: {error}") from error
        last = row
        yield row


def _row(values: Sequence[str]) -> TraceRow:
    if len(values) != len(COLUMNS):
        raise ValueError(f"expected the {len(COLUMNS)} values {','.join(COLUMNS)}, got {len(values)}")
    time, delay, loss, rate = (text.strip() for text in values)
    return TraceRow(_number("time", time), _number("delay", delay), _number("loss", loss), _number("rate", rate) if rate else None)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{name}: expected a number, got {text!r}") from error
