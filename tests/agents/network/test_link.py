"""Links: exact times, the stated rates and quantiles, and draws that depend on seed, agent and tick alone."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heal.agents.network.link import (
    PACKET_BYTES,
    DelayedLink,
    LossyLink,
    OutageLink,
    PacketLossLink,
    PerfectLink,
    TracedLink,
    message_loss,
)
from heal.agents.network.network import Link
from heal.agents.network.spec import LinkSpec
from heal.agents.network.trace import Trace
from heal.agents.network.transit import Transit
from heal.seeding import AgentDraws

TICKS = range(2000)
SECOND_NS = 1_000_000_000


def link(spec: str, seed: int = 0, agent_id: str = "a") -> Link:
    return LinkSpec.parse(spec).links(seed, None)(agent_id)


def arrivals(spec: str, seed: int = 0, agent_id: str = "a", size_bytes: int = 64) -> list[int | None]:
    made = link(spec, seed, agent_id)
    return [made.deliver(1000, size_bytes, tick).arrival_ns for tick in TICKS]


def delays_ms(spec: str) -> np.ndarray:
    return (np.array(arrivals(spec), dtype=float) - 1000) / 1e6


def lost_share(spec: str, size_bytes: int = 64) -> float:
    return sum(arrival is None for arrival in arrivals(spec, size_bytes=size_bytes)) / len(TICKS)


def test_perfect_and_delayed_are_exact() -> None:
    assert PerfectLink().deliver(7, 1, 0) == Transit(7)
    assert set(arrivals("perfect")) == {1000}
    assert set(arrivals("delay:100")) == {1000 + 100_000_000}


def test_loss_rate_is_the_stated_one() -> None:
    assert abs(lost_share("loss:0.2") - 0.2) < 0.03
    assert set(arrivals("loss:1")) == {None}


def test_jitter_is_even_around_the_delay_and_never_negative() -> None:
    found = delays_ms("delay:50,jitter:20")
    assert 30 <= found.min() < 31 and 69 < found.max() <= 70
    assert abs(found.mean() - 50) < 1
    assert min(np.array(arrivals("delay:5,jitter:20"))) == 1000


@pytest.mark.parametrize("spread", ["normal", "gamma", "lognormal", "pareto"])
def test_delay_and_jitter_are_mean_and_standard_deviation(spread: str) -> None:
    found = delays_ms(f"delay:50,jitter:12,spread:{spread}")
    assert abs(found.mean() - 50) < 1.2
    assert 10 < found.std() < 14
    assert len(np.unique(found)) == len(TICKS)


def test_spreads_have_the_quantiles_of_their_distributions() -> None:
    # With mean 50 and standard deviation 25: normal z(0.95) = 1.645; gamma of shape 4, quantile 0.95 = 15.507 / 2 * 12.5;
    # lognormal with sigma^2 = ln 1.25; Pareto with exponent 1 + sqrt 5 from 50 * (1 - 1 / exponent) on.
    sigma = math.sqrt(math.log(1.25))
    exponent = 1 + math.sqrt(5)
    least = 50 * (1 - 1 / exponent)
    expected = {
        "normal": 50 + 1.645 * 25,
        "gamma": 15.507 / 2 * 12.5,
        "lognormal": 50 * math.exp(1.645 * sigma - sigma**2 / 2),
        "pareto": least * 20 ** (1 / exponent),
    }
    for spread, quantile in expected.items():
        assert np.quantile(delays_ms(f"delay:50,jitter:25,spread:{spread}"), 0.95) == pytest.approx(quantile, rel=0.05), spread
    assert least <= delays_ms("delay:50,jitter:25,spread:pareto").min() < 1.01 * least


def test_tails_grow_heavier_from_spread_to_spread() -> None:
    beyond = [
        (delays_ms(f"delay:20,jitter:20,spread:{spread}") > 110).sum() for spread in ("uniform", "normal", "gamma", "lognormal")
    ]
    assert beyond[0] == beyond[1] == 0 < beyond[2] < beyond[3]


def test_a_spread_without_a_jitter_varies_by_half_the_delay() -> None:
    assert LinkSpec.parse("delay:50,spread:gamma") == LinkSpec.parse("delay:50,jitter:25,spread:gamma")


def test_a_message_is_lost_if_any_of_its_packets_is() -> None:
    assert message_loss(0.1, 1) == message_loss(0.1, PACKET_BYTES) == pytest.approx(0.1, rel=1e-12)
    assert message_loss(0.1, PACKET_BYTES + 1) == pytest.approx(0.19, rel=1e-12)
    assert message_loss(1e-6, 2_000_000) == pytest.approx(1 - (1 - 1e-6) ** 1431, rel=1e-9)
    assert (message_loss(0, 10**9), message_loss(1, 1)) == (0, 1)
    for size_bytes in (1_000, 14_000, 140_000):
        assert lost_share("packet_loss:0.01", size_bytes) == pytest.approx(message_loss(0.01, size_bytes), abs=0.035)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 10**7))
def test_more_packets_and_worse_ones_are_lost_more_often(one: float, other: float, size_bytes: int) -> None:
    assert 0 <= message_loss(min(one, other), size_bytes) <= message_loss(max(one, other), size_bytes) <= 1
    assert message_loss(one, size_bytes) <= message_loss(one, size_bytes + PACKET_BYTES)


def test_outages_have_their_mean_times() -> None:
    outages = OutageLink(20, 2, AgentDraws(5, "a"))
    step_s = 0.05
    down = np.array([outages.is_down(round(i * step_s * SECOND_NS)) for i in range(400_000)])
    assert down.mean() == pytest.approx(2 / 22, rel=0.15)
    begins = np.flatnonzero(~down[:-1] & down[1:])
    ends = np.flatnonzero(down[:-1] & ~down[1:])
    ends = ends[ends > begins[0]]
    lasted_s = (ends - begins[: len(ends)]) * step_s
    assert lasted_s.mean() == pytest.approx(2, rel=0.15)
    # Exponential: the standard deviation equals the mean, and a share of 1/e lasts longer than the mean.
    assert lasted_s.std() == pytest.approx(2, rel=0.2)
    assert (lasted_s > 2).mean() == pytest.approx(math.exp(-1), abs=0.06)


def test_an_outage_is_a_function_of_time_of_its_agent() -> None:
    times_ns = [i * SECOND_NS // 4 for i in range(400)]
    first = OutageLink(3, 1, AgentDraws(5, "a"))
    told = [first.deliver(time_ns, 1, 0) for time_ns in times_ns]
    again = OutageLink(3, 1, AgentDraws(5, "a"))
    assert [again.deliver(time_ns, 9, 77) for time_ns in reversed(times_ns)] == told[::-1]
    other = OutageLink(3, 1, AgentDraws(5, "b"))
    assert [other.deliver(time_ns, 1, 0) for time_ns in times_ns] != told
    assert {transit.reason for transit in told} == {"", "outage"}
    # Later blocks, of 1,000 outages each, have outages at other times.
    much_later = [first.deliver(4000 * SECOND_NS + time_ns, 1, 0).reason for time_ns in times_ns]
    assert set(much_later) == {"", "outage"} and much_later != [transit.reason for transit in told]
    assert isinstance(first.is_down(-(10**18)), bool) and isinstance(first.is_down(10**18), bool)


def test_a_traced_link_has_the_delay_and_the_loss_of_its_time(tmp_path: Path) -> None:
    file = tmp_path / "drive.csv"
    file.write_text("time,delay,loss,rate\n0,20,0,\n1,300,1,\n2,5,0.5,\n")
    traced = TracedLink(Trace.read(file), AgentDraws(0, "a"))
    assert {traced.deliver(0, 1, tick).arrival_ns for tick in range(50)} == {20_000_000}
    assert {traced.deliver(4 * SECOND_NS, 1, tick).reason for tick in range(50)} == {"on the link"}
    lost = sum(traced.deliver(2 * SECOND_NS, 1, tick).arrival_ns is None for tick in TICKS)
    assert abs(lost / len(TICKS) - 0.5) < 0.04
    both = LinkSpec.parse(f"trace:{file},delay:10").links(0, Trace.read(file))("a")
    assert both.deliver(0, 1, 0).arrival_ns == 30_000_000


def test_every_loss_has_its_reason() -> None:
    draws = AgentDraws(0, "a")
    assert LossyLink(1, draws).deliver(0, 1, 0) == Transit(None, "on the link")
    assert PacketLossLink(1, draws).deliver(0, 1, 0) == Transit(None, "packet loss")
    assert link("outage:0.001/1000").deliver(10**9, 1, 0) == Transit(None, "outage")


ROUGH = "delay:50,jitter:20,spread:gamma,loss:0.2,packet_loss:0.1,outage:20/2"


def test_draws_do_not_depend_on_the_order_of_calls() -> None:
    expected = arrivals(ROUGH)
    again = link(ROUGH)
    shuffled = random.Random(1).sample(list(TICKS), 300)
    assert [again.deliver(1000, 64, tick).arrival_ns for tick in shuffled] == [expected[tick] for tick in shuffled]


@pytest.mark.parametrize("spec", ["loss:0.5", "packet_loss:0.5"])
def test_seeds_and_agents_draw_independently(spec: str) -> None:
    base = arrivals(spec)
    for other in (arrivals(spec, seed=1), arrivals(spec, agent_id="b")):
        agreeing = np.mean([(x is None) == (y is None) for x, y in zip(base, other, strict=True)])
        assert abs(agreeing - 0.5) < 0.05


def test_kinds_of_loss_draw_independently() -> None:
    assert abs(lost_share("loss:0.5,packet_loss:0.5") - 0.75) < 0.04


def test_loss_leaves_the_rest_to_the_inner_link() -> None:
    draws = AgentDraws(3, "a")
    lossy = LossyLink(0.5, draws, DelayedLink(10, 0, draws))
    assert {lossy.deliver(0, 1, tick).arrival_ns for tick in TICKS} == {None, 10_000_000}
