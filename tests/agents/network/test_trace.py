"""Recorded links: rows over time, repetition, transmissions over several rates, and errors that name the line of a bad file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heal.agents.network.trace import Trace, TraceRow
from heal.errors import UserError

SECOND_NS = 1_000_000_000
DRIVE = "time,delay,loss,rate\n0,20,0,8\n1.5,80,0.25,2\n2.5,10,0,\n"


def read(tmp_path: Path, text: str) -> Trace:
    file = tmp_path / "drive.csv"
    file.write_text(text)
    return Trace.read(file)


def test_a_trace_is_a_step_function_that_repeats(tmp_path: Path) -> None:
    trace = read(tmp_path, DRIVE)
    first, second, third = TraceRow(0, 20, 0, 8), TraceRow(1.5, 80, 0.25, 2), TraceRow(2.5, 10, 0, None)
    assert trace.rows == (first, second, third)
    # The last row lasts one second, as the one before it: 3.5 s in all.
    expected = [(0, first), (1.4999, first), (1.5, second), (2.49, second), (2.5, third), (3.4999, third)]
    for round_s in (0, 3.5, 350, -3.5):
        for time_s, row in expected:
            assert trace.at(round((round_s + time_s) * SECOND_NS)) == row


def test_one_row_holds_for_ever(tmp_path: Path) -> None:
    trace = read(tmp_path, "time,delay,loss,rate\n0,20,0,8\n")
    assert {trace.at(time_ns).delay_ms for time_ns in (0, SECOND_NS, 77 * SECOND_NS + 5)} == {20}
    assert trace.finish_ns(0, 3_000_000) == 3 * SECOND_NS


def test_a_message_takes_the_rates_of_all_rows_that_it_crosses(tmp_path: Path) -> None:
    trace = read(tmp_path, DRIVE)
    # 8 Mbit/s is 1 MB in a second; 2 Mbit/s a quarter of that.
    assert trace.finish_ns(0, 1_000_000) == SECOND_NS
    assert trace.finish_ns(SECOND_NS, 500_000) == round(1.5 * SECOND_NS)
    assert trace.finish_ns(SECOND_NS, 625_000) == 2 * SECOND_NS
    assert trace.finish_ns(SECOND_NS, 900_000) == round(2.5 * SECOND_NS), "the unlimited row transmits the rest at once"
    assert trace.finish_ns(3 * SECOND_NS, 10**9) == 3 * SECOND_NS
    assert trace.has_rate and not read(tmp_path, "time,delay,loss,rate\n0,20,0,\n").has_rate


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=5), st.integers(0, 10**10), st.integers(1, 10**6), st.integers(1, 10**6))
def test_two_messages_take_as_long_as_one_of_their_size(rates: list[float], start_ns: int, one: int, other: int) -> None:
    trace = Trace(tuple(TraceRow(i, 0, 0, rate) for i, rate in enumerate(rates)))
    apart_ns = trace.finish_ns(trace.finish_ns(start_ns, one), other)
    assert apart_ns == pytest.approx(trace.finish_ns(start_ns, one + other), abs=100, rel=1e-9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected the header time,delay,loss,rate, got ''"),
        ("time,delay,loss\n0,1,0\n", "line 1: expected the header"),
        ("time,delay,loss,rate\n", "expected rows below the header, got none"),
        ("time,delay,loss,rate\n0,1,0\n", "line 2: expected the 4 values time,delay,loss,rate, got 3"),
        ("time,delay,loss,rate\n0,1,0,\n1,fast,0,\n", "line 3: delay: expected a number, got 'fast'"),
        ("time,delay,loss,rate\n0,1,0,\n\n1,1,,\n", "line 4: loss: expected a number, got ''"),
        ("time,delay,loss,rate\n5,1,0,\n", "line 2: time: expected 0 in the first row, got 5.0"),
        ("time,delay,loss,rate\n0,1,0,\n1,1,0,\n1,1,0,\n", "line 4: time: expected more than the 1.0 of the row before, got 1.0"),
        ("time,delay,loss,rate\n0,-1,0,\n", "line 2: delay: expected milliseconds from 0 to 1e+09, got -1.0"),
        ("time,delay,loss,rate\n0,nan,0,\n", "line 2: delay: expected milliseconds from 0 to 1e+09, got nan"),
        ("time,delay,loss,rate\n0,1,1.5,\n", "line 2: loss: expected a probability in [0, 1], got 1.5"),
        ("time,delay,loss,rate\n0,1,0,0\n", "line 2: rate: expected Mbit/s >= 0.001, or nothing for no limit, got 0.0"),
    ],
)
def test_errors_name_the_line_of_a_bad_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match="trace") as refusal:
        read(tmp_path, text)
    assert message in str(refusal.value) and "drive.csv" in str(refusal.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "drive.csv"
    file.write_bytes(b"time,delay,loss,rate\n\xff\xfe\n")
    with pytest.raises(ValueError, match=r"drive\.csv: expected a CSV file in UTF-8"):
        Trace.read(file)


@pytest.mark.parametrize("row", ["1e300,1,0,1", "1.1e9,1,0,1", "5,1e300,0,1", "5,1.1e9,0,1"])
def test_times_beyond_all_recordings_are_refused(tmp_path: Path, row: str) -> None:
    with pytest.raises(UserError, match=r"line 3: (time|delay): expected (milli)?seconds from 0 to 1e\+09"):
        read(tmp_path, f"time,delay,loss,rate\n0,1,0,1\n{row}\n")


def walked_ns(trace: Trace, start_ns: int, size_bytes: int) -> float:
    """When a transmission ends, nanosecond by nanosecond."""
    bits, now_ns = 8.0 * size_bytes, start_ns
    while bits > 0:
        rate = trace.at(now_ns).rate_mbit_s
        if rate is None:
            return now_ns
        bits, now_ns = bits - rate / 1e3, now_ns + 1
    return now_ns


@given(
    st.lists(st.tuples(st.integers(1, 9), st.sampled_from([30.0, 100.0, 8000.0])), min_size=1, max_size=4),
    st.integers(-50, 50),
    st.integers(1, 300),
)
def test_rows_that_last_nanoseconds_are_crossed_round_by_round(rows: list[tuple[int, float]], start_ns: int, size: int) -> None:
    starts = np.cumsum([0, *(length for length, _ in rows[:-1])]) / 1e9
    trace = Trace(tuple(TraceRow(float(start), 0, 0, rate) for start, (_, rate) in zip(starts, rows, strict=True)))
    assert trace.finish_ns(start_ns, size) == pytest.approx(walked_ns(trace, start_ns, size), abs=2)


def test_a_long_transmission_over_short_rows_ends_at_once() -> None:
    """Two rows of a nanosecond each, and a message that takes 2,000 s at half of the higher rate: 10^12 rows."""
    trace = Trace((TraceRow(0, 0, 0, 0.001), TraceRow(1e-9, 0, 0, 0.015)))
    assert trace.finish_ns(7, 2_000_000) == pytest.approx(2000 * SECOND_NS, rel=1e-6)
