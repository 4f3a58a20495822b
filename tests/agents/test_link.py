"""Links: exact times, right rates, and draws that depend on nothing but seed, agent and tick."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heal.agents.link import DelayedLink, Dice, LinkSpec, LossyLink, PerfectLink

TICKS = range(2000)


def arrivals(spec: str, seed: int = 0, agent_id: str = "a") -> list[int | None]:
    link = LinkSpec.parse(spec).factory(seed)(agent_id)
    return [link.deliver(1000, 64, tick) for tick in TICKS]


def test_perfect_and_delayed_are_exact() -> None:
    assert PerfectLink().deliver(7, 1, 0) == 7
    assert set(arrivals("perfect")) == {1000}
    assert set(arrivals("delay:100")) == {1000 + 100_000_000}


def test_loss_rate_is_the_stated_one() -> None:
    lost = sum(arrival is None for arrival in arrivals("loss:0.2"))
    assert abs(lost / len(TICKS) - 0.2) < 0.03
    assert set(arrivals("loss:1")) == {None}


def test_jitter_is_even_around_the_delay_and_never_negative() -> None:
    delays_ms = (np.array(arrivals("delay:50,jitter:20")) - 1000) / 1e6
    assert 30 <= delays_ms.min() < 31 and 69 < delays_ms.max() <= 70
    assert abs(delays_ms.mean() - 50) < 1
    assert min(np.array(arrivals("delay:5,jitter:20"))) == 1000


def test_draws_do_not_depend_on_the_order_of_calls() -> None:
    expected = arrivals("delay:50,jitter:20,loss:0.3")
    link = LinkSpec.parse("delay:50,jitter:20,loss:0.3").factory(0)("a")
    shuffled = random.Random(1).sample(list(TICKS), 300)
    assert [link.deliver(1000, 64, tick) for tick in shuffled] == [expected[tick] for tick in shuffled]


def test_seeds_and_agents_draw_independently() -> None:
    base = arrivals("loss:0.5")
    for other in (arrivals("loss:0.5", seed=1), arrivals("loss:0.5", agent_id="b")):
        agreeing = np.mean([(x is None) == (y is None) for x, y in zip(base, other, strict=True)])
        assert abs(agreeing - 0.5) < 0.05


def test_loss_leaves_the_rest_to_the_inner_link() -> None:
    dice = Dice(3, "a")
    link = LossyLink(0.5, dice, DelayedLink(10, 0, dice))
    assert {link.deliver(0, 1, tick) for tick in TICKS} == {None, 10_000_000}


@given(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 1))
def test_what_is_written_is_read(delay: float, jitter: float, loss: float) -> None:
    assert LinkSpec.parse(f"delay:{delay!r}, jitter:{jitter!r},loss:{loss!r}") == LinkSpec(delay, jitter, loss)


@pytest.mark.parametrize(
    "text", ["", "delay", "delay:x", "speed:3", "loss:2", "loss:-0.1", "delay:nan", "delay:inf", "loss:1,loss:1"]
)
def test_bad_words_are_refused_with_what_is_possible(text: str) -> None:
    with pytest.raises(ValueError, match="link"):
        LinkSpec.parse(text)
