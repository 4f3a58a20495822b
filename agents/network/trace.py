"""A recorded link: delay, loss and rate over time from a CSV file, as a step function that repeats when it ends."""

from __future__ import annotations

import csv
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from heal.errors import UserError

COLUMNS = ("time", "delay", "loss", "rate")
MIN_MBIT_S = 0.001
MAX_TIME_S, MAX_DELAY_MS = 1e9, 1e9
"""The latest time of a row, 31 years, and the longest delay, 11 days: times in nanoseconds stay whole numbers of 64 bits."""


@dataclass(frozen=True)
class TraceRow:
    """The properties of the link from one time until the time of the next row.

    Attributes:
        time_s: seconds since the begin of the trace.
        delay_ms: delay of a message.
        loss: probability in [0, 1] that a message is lost.
        rate_mbit_s: rate of the link; None for no limit.
    """

    time_s: float
    delay_ms: float
    loss: float
    rate_mbit_s: float | None

    def __post_init__(self) -> None:
        """Check the ranges; the negated comparisons also refuse NaN."""
        if not 0 <= self.time_s <= MAX_TIME_S:
            raise UserError(f"time: expected seconds from 0 to {MAX_TIME_S:g}, got {self.time_s}")
        if not 0 <= self.delay_ms <= MAX_DELAY_MS:
            raise UserError(f"delay: expected milliseconds from 0 to {MAX_DELAY_MS:g}, got {self.delay_ms}")
        if not 0 <= self.loss <= 1:
            raise UserError(f"loss: expected a probability in [0, 1], got {self.loss}")
        if self.rate_mbit_s is not None and not MIN_MBIT_S <= self.rate_mbit_s < math.inf:
            raise UserError(f"rate: expected Mbit/s >= {MIN_MBIT_S}, or nothing for no limit, got {self.rate_mbit_s}")

    @property
    def start_ns(self) -> int:
        """The time of the row in nanoseconds since the begin of the trace."""
        return round(self.time_s * 1e9)


@dataclass(frozen=True)
class Trace:
    """A step function of time. The last row lasts as long as the row before it (a single row 1 s); then the trace begins again.

    Attributes:
        rows: at least one, in the order of their times, the first at time 0.
    """

    rows: tuple[TraceRow, ...]

    def __post_init__(self) -> None:
        """Check that there are rows and that their times begin at 0 and increase."""
        if not self.rows:
            raise UserError("a trace needs at least one row")
        for previous, row in zip((None, *self.rows), self.rows, strict=False):
            _require_order(previous, row)

    @staticmethod
    def read(path: Path) -> Trace:
        """Read a CSV file with the header time,delay,loss,rate, in s, ms, probability and Mbit/s (empty for no limit).

        Raises:
            ValueError: the file is missing or wrong; the message names the file and, if one line is wrong, that line.
        """
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = tuple(_read_rows(path, file))
        except OSError as error:
            raise UserError(f"trace {path}: cannot be read: {error.strerror}") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"trace {path}: expected a CSV file in UTF-8: {error}") from error
        if not rows:
            raise UserError(f"trace {path}: expected rows below the header, got none")
        return Trace(rows)

    @property
    def has_rate(self) -> bool:
        """Whether any row limits the rate."""
        return any(row.rate_mbit_s is not None for row in self.rows)

    def at(self, time_ns: int) -> TraceRow:
        """Return the row that holds at a time in ns since the begin of the trace, negative or beyond its end too."""
        return self.rows[self._locate(time_ns)[0]]

    def finish_ns(self, start_ns: int, size_bytes: int) -> int:
        """Return the time in ns at which a transmission that begins at `start_ns` ends, at the rates of all rows that it spans."""
        finish_ns, bits, now_ns = self._cross_rows(8.0 * size_bytes, start_ns)
        if finish_ns is None:
            # Longer than a whole round: rounds are skipped at once, since rows may last a nanosecond each.
            rounds = max(int(bits // self._round_bits) - 1, 0)
            finish_ns, bits, now_ns = self._cross_rows(bits - rounds * self._round_bits, now_ns + rounds * self._period_ns)
        while finish_ns is None:
            finish_ns, bits, now_ns = self._cross_rows(bits, now_ns)
        return finish_ns

    def _cross_rows(self, bits: float, now_ns: int) -> tuple[int | None, float, int]:
        """Transmit over at most as many rows as the trace has.

        Returns:
            The time in ns at which the transmission ends, None if it takes longer; then the bits that are left, and the time.
        """
        for _ in self.rows:
            place, end_ns = self._locate(now_ns)
            rate = self.rows[place].rate_mbit_s
            if rate is None:
                return now_ns, 0.0, now_ns
            capacity_bits = (end_ns - now_ns) * rate / 1e3
            if bits <= capacity_bits:
                return now_ns + math.ceil(bits * 1e3 / rate), 0.0, now_ns
            bits, now_ns = bits - capacity_bits, end_ns
        return None, bits, now_ns

    @cached_property
    def _round_bits(self) -> float:
        """The bits that all rows together can transmit; only of a trace whose rows all have a rate."""
        ends_ns = [*self._starts_ns[1:], self._period_ns]
        lengths_ns = [end_ns - start_ns for start_ns, end_ns in zip(self._starts_ns, ends_ns, strict=True)]
        return sum(length * (row.rate_mbit_s or 0.0) / 1e3 for length, row in zip(lengths_ns, self.rows, strict=True))

    @cached_property
    def _starts_ns(self) -> list[int]:
        return [row.start_ns for row in self.rows]

    @cached_property
    def _period_ns(self) -> int:
        starts_ns = self._starts_ns
        return 2 * starts_ns[-1] - starts_ns[-2] if len(starts_ns) > 1 else 1_000_000_000

    def _locate(self, time_ns: int) -> tuple[int, int]:
        """Return the index of the row that holds at a time, and the time in ns at which that row ends."""
        rounds, within_ns = divmod(time_ns, self._period_ns)
        place = bisect_right(self._starts_ns, within_ns) - 1
        end_ns = self._starts_ns[place + 1] if place + 1 < len(self.rows) else self._period_ns
        return place, rounds * self._period_ns + end_ns


def _require_order(previous: TraceRow | None, row: TraceRow) -> None:
    if previous is None and row.start_ns != 0:
        raise UserError(f"time: expected 0 in the first row, got {row.time_s}")
    if previous is not None and row.start_ns <= previous.start_ns:
        raise UserError(f"time: expected more than the {previous.time_s} of the row before, got {row.time_s}")


def _read_rows(path: Path, lines: Iterable[str]) -> Iterator[TraceRow]:
    """Yield the rows of a file. Each row is compared with the previous row here too, so that the error names the line."""
    reader, previous = csv.reader(lines), None
    header = next(reader, [])
    if tuple(name.strip() for name in header) != COLUMNS:
        raise UserError(f"trace {path}, line 1: expected the header {','.join(COLUMNS)}, got {','.join(header)!r}")
    for values in reader:
        if not values:
            continue
        try:
            row = _parse_row(values)
            _require_order(previous, row)
        except ValueError as error:
            raise UserError(f"trace {path}, line {reader.line_num}: {error}") from error
        previous = row
        yield row


def _parse_row(values: Sequence[str]) -> TraceRow:
    if len(values) != len(COLUMNS):
        raise UserError(f"expected the {len(COLUMNS)} values {','.join(COLUMNS)}, got {len(values)}")
    time, delay, loss, rate = (text.strip() for text in values)
    return TraceRow(
        _parse_number("time", time),
        _parse_number("delay", delay),
        _parse_number("loss", loss),
        _parse_number("rate", rate) if rate else None,
    )


def _parse_number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UserError(f"{name}: expected a number, got {text!r}") from error
