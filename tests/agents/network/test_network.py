"""Networks: waiting times, dropped messages, media that keep to their rate, and a fair order of messages of the same instant."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heal.agents.network.network import Network
from heal.agents.network.spec import LinkSpec
from heal.agents.network.transit import MediumFeedback, Transit, Transmission

MS = 1_000_000
TICK_NS = 100 * MS
EPOCH_NS = 1_700_000_000 * 10**9


def network(options: str, seed: int = 0) -> Network:
    return LinkSpec.parse(options).network(seed)


def tick_of(tick: int, sizes: dict[str, int], start_ns: int = 0) -> list[Transmission]:
    return [Transmission(agent_id, start_ns + tick * TICK_NS, size) for agent_id, size in sizes.items()]


def test_an_own_rate_takes_its_time_and_makes_later_messages_wait() -> None:
    # 8 Mbit/s: 1 kB takes 1 ms.
    crossing = network("rate:8,queue:200,delay:5")
    arrivals_ms = [
        [(transit.arrival_ns or 0) / MS for transit in crossing.send(tick, tick_of(tick, {"a": size, "b": 1_000}))]
        for tick, size in enumerate((150_000, 30_000, 10_000))
    ]
    assert arrivals_ms == [[155, 6], [100 + 50 + 30 + 5, 106], [215, 206]]


def test_a_shared_medium_serves_one_message_after_the_other() -> None:
    crossing = network("shared:8,queue:500")
    sizes = {"a": 10_000, "b": 20_000, "c": 30_000}
    for tick in range(20):
        sent = tick_of(tick, sizes)
        transits = crossing.send(tick, sent)
        times = sorted(
            (transit.arrival_ns or 0, transmission.size_bytes) for transit, transmission in zip(transits, sent, strict=True)
        )
        ends_ms = [(end_ns - tick * TICK_NS) / MS for end_ns, _ in times]
        assert ends_ms == list(np.cumsum([size / 1000 for _, size in times]))
        assert {transit.feedback.idle_ns for transit in transits if transit.feedback} == {times[-1][0]}


def test_messages_are_transmitted_in_the_order_of_their_coming() -> None:
    crossing = network("shared:8,queue:500")
    transits = crossing.send(
        0, [Transmission("late", 2 * MS, 1_000), Transmission("early", 0, 5_000), Transmission("middle", 1 * MS, 1_000)]
    )
    assert [transit.arrival_ns for transit in transits] == [7 * MS, 5 * MS, 6 * MS]


def test_the_order_of_messages_of_the_same_instant_is_fair() -> None:
    crossing = network("shared:27")
    firsts, orders = Counter[str](), set()
    for tick in range(600):
        sent = tick_of(tick, dict.fromkeys("abcd", 1_000))
        arrivals = [transit.arrival_ns or 0 for transit in crossing.send(tick, sent)]
        order = tuple(sent[i].agent_id for i in np.argsort(arrivals))
        firsts[order[0]] += 1
        orders.add(order)
    assert len(orders) == 24
    assert all(110 < firsts[agent_id] < 190 for agent_id in "abcd")


def test_the_order_depends_on_seed_and_tick_but_not_on_the_order_of_the_transmissions() -> None:
    def run(seed: int, backwards: bool) -> list[dict[str, int | None]]:
        crossing, told = network("dsrc", seed), []
        for tick in range(30):
            sent = tick_of(tick, dict.fromkeys("abcde", 1_000))[:: -1 if backwards else 1]
            told.append(
                {
                    transmission.agent_id: transit.arrival_ns
                    for transmission, transit in zip(sent, crossing.send(tick, sent), strict=True)
                }
            )
        return told

    assert run(1, False) == run(1, True) != run(2, False)


def test_a_message_that_would_wait_too_long_is_dropped() -> None:
    crossing = network("shared:8,queue:25")
    transits = crossing.send(0, tick_of(0, dict.fromkeys("abcdef", 10_000)))
    told = sorted(transits, key=lambda transit: transit.arrival_ns or 10**18)
    assert [transit.arrival_ns for transit in told] == [10 * MS, 20 * MS, 30 * MS, None, None, None]
    assert {transit.reason for transit in told[3:]} == {"queue full"}
    assert told[3].feedback == MediumFeedback(None, 30 * MS, overflow=True)
    assert told[0].feedback == MediumFeedback(10 * MS, 30 * MS, overflow=True)
    after = crossing.send(1, tick_of(1, {"a": 1_000}))[0]
    assert after == Transit(101 * MS, "", MediumFeedback(101 * MS, 101 * MS)), "a dropped message takes no time"


def test_a_long_message_keeps_later_ticks_waiting() -> None:
    crossing = network("shared:8")
    assert crossing.send(0, tick_of(0, {"a": 350_000}))[0].arrival_ns == 350 * MS
    told = [crossing.send(tick, tick_of(tick, {"b": 1_000}))[0] for tick in (1, 2, 3)]
    assert [transit.reason for transit in told] == ["queue full", "queue full", ""]
    assert told[2].arrival_ns == 351 * MS


def test_media_are_idle_when_time_goes_back() -> None:
    crossing = network("shared:8")
    crossing.send(0, [Transmission("a", EPOCH_NS, 5_000_000)])
    assert crossing.send(1, [Transmission("a", EPOCH_NS - 10**10, 1_000)])[0].arrival_ns == EPOCH_NS - 10**10 + MS


def test_a_later_call_for_an_earlier_tick_keeps_the_queues() -> None:
    crossing = network("shared:8,queue:500")
    crossing.send(0, [Transmission("a", 0, 1_000)])
    crossing.send(1, [Transmission("a", TICK_NS + 60 * MS, 100_000)])
    assert crossing.send(0, [Transmission("b", TICK_NS + 50 * MS, 1_000)])[0].arrival_ns == TICK_NS + 161 * MS


def assert_within_rate(left: list[tuple[int, int]], mbit_s: float) -> None:
    """Check that transmissions do not overlap: between any two ends lies the time of the later ones; `left`: (end_ns, bytes)."""
    ordered = sorted(left)
    for i, (start_ns, _) in enumerate(ordered):
        needed_ns = np.cumsum([8e3 * size / mbit_s for _, size in ordered[i + 1 :]])
        assert all(needed_ns <= np.array([end_ns - start_ns + 1 for end_ns, _ in ordered[i + 1 :]]))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 60_000), min_size=1, max_size=6), min_size=1, max_size=12),
    st.sampled_from([(6.0, "shared:6"), (6.0, "rate:6"), (27.0, "dsrc,delay:30,jitter:30,loss:0.2,rate:54")]),
)
def test_no_medium_carries_more_than_its_rate(ticks: list[list[int]], medium: tuple[float, str]) -> None:
    mbit_s, options = medium
    crossing, left = network(options), dict[str, list[tuple[int, int]]]()
    for tick, sizes in enumerate(ticks):
        sent = tick_of(tick, {f"a{i}": size for i, size in enumerate(sizes)}, EPOCH_NS)
        for transmission, transit in zip(sent, crossing.send(tick, sent), strict=True):
            assert (transit.arrival_ns is None) == bool(transit.reason)
            if transit.feedback and transit.feedback.transmitted_ns is not None:
                assert transit.feedback.transmitted_ns - transmission.sent_ns >= 8e3 * transmission.size_bytes / mbit_s
                medium_of = transmission.agent_id if options == "rate:6" else "all"
                left.setdefault(medium_of, []).append((transit.feedback.transmitted_ns, transmission.size_bytes))
    for messages in left.values():
        assert_within_rate(messages, mbit_s)


def test_a_message_that_the_link_loses_occupies_the_medium_but_an_outage_does_not() -> None:
    lost = network("shared:8,loss:1").send(0, tick_of(0, {"a": 10_000, "b": 10_000}))
    assert {(transit.reason, transit.feedback.idle_ns) for transit in lost if transit.feedback} == {("on the link", 20 * MS)}
    down = network("shared:8,outage:0.0001/1000").send(0, tick_of(0, {"a": 10_000}))
    assert down == [Transit(None, "outage")]


def test_a_full_queue_is_the_reason_even_if_the_link_would_lose_the_message() -> None:
    told = Counter(
        transit.reason for transit in network("shared:8,queue:15,loss:1").send(0, tick_of(0, dict.fromkeys("abcd", 10_000)))
    )
    assert told == {"on the link": 2, "queue full": 2}


def test_a_trace_begins_with_the_run(tmp_path: Path) -> None:
    file = tmp_path / "drive.csv"
    file.write_text("time,delay,loss,rate\n0,20,0,\n0.1,70,0,8\n0.2,0,1,\n")
    crossing = network(f"trace:{file}")
    transits = [crossing.send(tick, tick_of(tick, {"a": 2_000}, EPOCH_NS + 12_345))[0] for tick in range(6)]
    since_ms = [
        None if transit.arrival_ns is None else (transit.arrival_ns - EPOCH_NS - 12_345) / MS - 100 * tick
        for tick, transit in enumerate(transits)
    ]
    assert since_ms == [20, 72, None, 20, 72, None]


def test_links_draw_the_same_with_a_medium_before_them() -> None:
    plain, shared = network("delay:50,jitter:40,loss:0.3", 3), network("delay:50,jitter:40,loss:0.3,shared:8", 3)
    for tick in range(100):
        one, other = (each.send(tick, tick_of(tick, {"a": 1_000}))[0] for each in (plain, shared))
        assert one.reason == other.reason
        assert one.arrival_ns is None or other.arrival_ns == one.arrival_ns + MS


def test_no_messages_give_no_transits() -> None:
    assert network("dsrc").send(0, []) == [] == network("perfect").send(0, [])


@pytest.mark.parametrize("options", ["perfect", "delay:30,jitter:5"])
def test_without_media_size_does_not_matter(options: str) -> None:
    small, great = (network(options).send(0, tick_of(0, dict.fromkeys("ab", size))) for size in (1, 10**9))
    assert small == great
