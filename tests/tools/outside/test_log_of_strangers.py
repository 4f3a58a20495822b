"""What came through a run's door, in the lines of its ticks, its metrics and on the console."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from heal.agents.faults import Fault
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.tools.shared.run_log import RunLog, tick_line
from heal.tools.simulation.join_notes import JoinNotes
from tests.agents.made_ticks import RANGE_M, made_tick


def tick_with_strangers(tick: int) -> TickResult:
    """A tick in which b is an outside agent, and the door turned four byte strings away."""
    made = made_tick(tick)
    records = tuple(replace(record, outside=record.agent_id == "b") for record in made.messages)
    return replace(made, messages=records, turned_away={"malformed": 3, "rate limit": 1})


def test_what_the_door_turned_away_is_in_the_lines_and_the_metrics() -> None:
    log = RunLog.of(RunOptions(), RANGE_M)
    for result in (tick_with_strangers(0), tick_with_strangers(1), made_tick(2)):
        log.add(result)
    assert log.metrics()["reasons"] == {"turned away: malformed": 6, "turned away: rate limit": 2}
    assert "at the door 6 turned away: malformed, 2 turned away: rate limit" in str(log.table().caption)
    line = tick_line(tick_with_strangers(0))
    assert line["turned_away"] == {"malformed": 3, "rate limit": 1}
    assert [(message["agent_id"], message.get("outside")) for message in line["messages"]] == [
        ("ego", None),
        ("b", True),
        ("-1", None),
    ]
    assert [message["link_ms"] for message in line["messages"]][1] is None
    assert "turned_away" not in tick_line(made_tick(2))


def test_who_comes_from_outside_and_who_falls_silent_is_said_once() -> None:
    console = Console(record=True, width=200, quiet=False)
    notes, gone = JoinNotes((), console), made_tick(3)
    without_b = replace(gone, messages=tuple(record for record in gone.messages if record.agent_id != "b"))
    for result in (
        made_tick(0),
        replace(without_b, tick=1),
        tick_with_strangers(2),
        tick_with_strangers(3),
        replace(without_b, tick=4, faults=(Fault("agent silent", "b"),)),
    ):
        notes.add(result)
    said = ["tick 2: agent b joins from outside with type m2", "tick 4: agent b from outside has fallen silent"]
    assert console.export_text().splitlines() == said
