"""`heal bench door`: every honest message and the flood's garbage are accounted."""

import pytest

from heal.tools.benches.door import run

pytest.importorskip("zenoh")


def test_the_flood_is_turned_away_and_every_honest_message_counts() -> None:
    come = run(messages=5, flood_hz=200.0)
    assert len(come.delays_ms) + come.turned_away["queue full"] == 5 and min(come.delays_ms) > 0
    assert come.turned_away["malformed"] > 0 and set(come.turned_away) <= {"malformed", "queue full"}
    assert come.seconds > 0.4


def test_without_a_flood_nothing_is_malformed() -> None:
    assert set(run(messages=3, flood_hz=0.0).turned_away) <= {"queue full"}
