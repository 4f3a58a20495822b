"""Rate control: senders on one medium find sizes that arrive in time, share it fairly, and come back after disturbances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heal.agents.network.rate_control import FEEDBACK_TICKS, FLOOR_BYTES, RateControl
from heal.agents.network.spec import LinkSpec
from heal.agents.network.transit import MediumFeedback, Transit, Transmission

MS = 1_000_000
DEADLINE_MS, PERIOD_MS, NATURAL_BYTES = 100.0, 100, 2_000_000
DSRC_BYTES = 27e6 / 8 / 10  # in a tick
BEGIN = 30  # first tick that is judged


@dataclass(frozen=True)
class Run:
    """The messages of a run of senders on a network.

    Attributes:
        sizes: (ticks, senders) bytes sent; 0 for a sender that is away.
        in_time: (ticks, senders) whether the message arrives by the deadline.
        blameless: (ticks, senders) whether the message is lost for a reason other than its size.
    """

    sizes: np.ndarray
    in_time: np.ndarray
    blameless: np.ndarray

    def share_in_time(self, begin: int = BEGIN) -> float:
        """Return the share of messages in time, without those that are lost for a reason other than their size."""
        counted = (self.sizes > 0) & ~self.blameless
        return float(self.in_time[begin:].sum() / counted[begin:].sum())

    def use(self, capacity_bytes: float = DSRC_BYTES, begin: int = BEGIN) -> float:
        """Return the share of the medium's capacity that messages in time use."""
        return float((self.sizes * self.in_time)[begin:].sum(axis=1).mean() / capacity_bytes)

    def fairness(self, begin: int = BEGIN) -> float:
        """Return Jain's index of the worst tick: 1 if all send as much, 1 / senders if a single sender has the whole medium."""
        sizes = self.sizes[begin:]
        return float((sizes.sum(axis=1) ** 2 / (sizes**2).sum(axis=1) / sizes.shape[1]).min())


def always(sender: int, tick: int) -> bool:
    return True


def simulate(
    options: str,
    senders: int,
    ticks: int = 120,
    deadline_ms: float = DEADLINE_MS,
    natural_bytes: int = NATURAL_BYTES,
    there: Callable[[int, int], bool] = always,
) -> Run:
    network, control = LinkSpec.parse(options).network(3), RateControl(deadline_ms)
    sizes, in_time, blameless = (np.zeros((ticks, senders), kind) for kind in (int, bool, bool))
    for tick in range(ticks):
        present = [i for i in range(senders) if there(i, tick)]
        budgets = [control.budget_bytes(tick, f"a{i}") for i in present]
        sent = [
            Transmission(f"a{i}", tick * PERIOD_MS * MS, min(natural_bytes, budget or natural_bytes))
            for i, budget in zip(present, budgets, strict=True)
        ]
        for i, transmission, transit in zip(present, sent, network.send(tick, sent), strict=True):
            control.observe(tick, transmission.agent_id, transmission.size_bytes, transit, transmission.sent_ns)
            sizes[tick, i] = transmission.size_bytes
            in_time[tick, i] = transit.arrival_ns is not None and transit.arrival_ns - transmission.sent_ns <= deadline_ms * MS
            blameless[tick, i] = transit.reason in ("on the link", "packet loss", "outage")
    return Run(sizes, in_time, blameless)


def test_ten_senders_share_dsrc_in_time_from_an_unlimited_start() -> None:
    run = simulate("dsrc", 10)
    assert run.sizes[0].tolist() == [NATURAL_BYTES] * 10
    assert run.share_in_time(begin=20) >= 0.99
    assert run.use(begin=20) >= 0.75
    assert run.fairness() >= 0.99
    assert np.abs(np.diff(run.sizes[BEGIN:], axis=0)).max() <= 0.05 * run.sizes[BEGIN:].max(), "settled sizes stay"


@pytest.mark.parametrize("senders", [1, 2, 5, 30, 100])
def test_any_number_of_senders_shares_the_medium(senders: int) -> None:
    run = simulate("dsrc", senders)
    assert run.share_in_time() >= 0.95
    assert run.use() >= 0.6
    assert run.fairness() >= 0.95


@pytest.mark.parametrize(("deadline_ms", "use"), [(30, 0.2), (50, 0.4), (200, 0.75), (500, 0.75)])
def test_the_deadline_says_how_much_fits(deadline_ms: float, use: float) -> None:
    run = simulate("dsrc", 10, deadline_ms=deadline_ms)
    assert run.share_in_time() >= 0.95
    assert use <= run.use() <= min(1.0, deadline_ms / PERIOD_MS)


def test_a_distant_deadline_is_no_reason_to_keep_a_queue() -> None:
    network, control = LinkSpec.parse("dsrc,queue:500").network(0), RateControl(500)
    longest_ms = 0.0
    for tick in range(80):
        sent = [
            Transmission(f"a{i}", tick * PERIOD_MS * MS, control.budget_bytes(tick, f"a{i}") or NATURAL_BYTES) for i in range(10)
        ]
        for transmission, transit in zip(sent, network.send(tick, sent), strict=True):
            control.observe(tick, transmission.agent_id, transmission.size_bytes, transit, transmission.sent_ns)
            if tick >= 40:
                longest_ms = max(longest_ms, ((transit.arrival_ns or 10**18) - transmission.sent_ns) / MS)
    assert longest_ms <= PERIOD_MS


@pytest.mark.parametrize("queue_ms", [30, 50, 500])
def test_budgets_fit_a_queue_of_any_length(queue_ms: float) -> None:
    run = simulate(f"dsrc,queue:{queue_ms}", 10, ticks=200)
    assert run.share_in_time() >= 0.95
    assert run.use() >= min(0.6, 0.8 * queue_ms / PERIOD_MS)
    assert run.fairness() >= 0.9


@pytest.mark.parametrize("options", ["rate:6", "shared:1000", "dsrc,rate:54"])
def test_media_of_other_kinds(options: str) -> None:
    run = simulate(options, 4, natural_bytes=20_000_000 if "1000" in options else NATURAL_BYTES, ticks=150)
    assert run.share_in_time(begin=60) >= 0.95
    capacity_bytes = {"rate:6": 4 * 75_000, "shared:1000": 12.5e6, "dsrc,rate:54": DSRC_BYTES}[options]
    assert run.use(capacity_bytes, begin=60) >= 0.5


@pytest.mark.parametrize("options", ["loss:0.5", "packet_loss:0.001", "outage:2/2", "delay:80,jitter:40", "delay:300", "perfect"])
def test_losses_and_delays_that_do_not_depend_on_size_set_no_budget(options: str) -> None:
    assert set(simulate(options, 4).sizes.flat) == {NATURAL_BYTES}


@pytest.mark.parametrize("options", ["dsrc,loss:0.3", "dsrc,packet_loss:0.02"])
def test_losses_do_not_make_messages_small(options: str) -> None:
    lossy, clean = simulate(options, 10), simulate("dsrc", 10)
    np.testing.assert_array_equal(lossy.sizes, clean.sizes)
    assert lossy.blameless[BEGIN:].mean() > 0.2


def test_messages_that_fit_are_left_alone() -> None:
    run = simulate("dsrc", 10, natural_bytes=30_000)
    assert set(run.sizes.flat) == {30_000} and run.in_time.all()


def test_the_delay_of_a_link_is_taken_off_the_time() -> None:
    run = simulate("dsrc,delay:40,jitter:20", 10)
    assert run.share_in_time() >= 0.9
    assert 0.35 <= run.use() <= 0.65


def test_shares_follow_senders_that_join_and_leave() -> None:
    joined = simulate("dsrc", 10, ticks=150, there=lambda sender, tick: sender < 9 or tick >= 60)
    assert joined.share_in_time(begin=75) >= 0.99
    assert joined.fairness(begin=75) >= 0.95
    assert joined.use(begin=75) >= 0.7
    left = simulate("dsrc", 10, ticks=120, there=lambda sender, tick: sender < 5 or tick < 60)
    assert left.use(begin=75) >= 0.7
    assert left.share_in_time(begin=30) >= 0.99


def test_budgets_stay_through_an_outage_of_all_senders() -> None:
    network, control = LinkSpec.parse("dsrc").network(0), RateControl(DEADLINE_MS)
    before: list[int] = []
    for tick in range(100):
        budgets = [control.budget_bytes(tick, f"a{i}") or NATURAL_BYTES for i in range(10)]
        sent = [Transmission(f"a{i}", tick * PERIOD_MS * MS, budget) for i, budget in enumerate(budgets)]
        down = 40 <= tick < 60
        transits = [Transit(None, "outage")] * 10 if down else network.send(tick, sent)
        for transmission, transit in zip(sent, transits, strict=True):
            control.observe(tick, transmission.agent_id, transmission.size_bytes, transit, transmission.sent_ns)
        if tick == 43:
            before = budgets
        if tick >= 43:
            assert budgets == pytest.approx(before, rel=0.05)
    assert min(before) > 20_000


def test_a_sender_after_its_outages_finds_its_share_again() -> None:
    run = simulate("dsrc,outage:4/1", 10, ticks=200)
    assert run.share_in_time(begin=60) >= 0.95
    assert run.use(begin=60) >= 0.6


BUSY = Transit(400 * MS, "", MediumFeedback(400 * MS, 400 * MS))
FULL = Transit(None, "queue full", MediumFeedback(None, 400 * MS, overflow=True))


def observed(*transits: Transit) -> RateControl:
    control = RateControl(DEADLINE_MS)
    for tick, transit in enumerate(transits):
        control.observe(tick, "a", 1_000_000, transit, 0)
    return control


@pytest.mark.parametrize("transit", [BUSY, FULL, Transit(400 * MS), Transit(None, "queue full")])
def test_lateness_and_full_queues_are_reacted_to_and_not_before_feedback_is_due(transit: Transit) -> None:
    control = observed(transit)
    budgets = [control.budget_bytes(tick, "a") for tick in range(FEEDBACK_TICKS + 1)]
    assert budgets[:-1] == [None] * FEEDBACK_TICKS
    assert budgets[-1] is not None and FLOOR_BYTES <= budgets[-1] < 100_000
    assert control.budget_bytes(9, "b") is None


def test_a_dropped_message_of_a_neighbour_counts_too() -> None:
    assert observed(Transit(5 * MS, "", MediumFeedback(5 * MS, 40 * MS, overflow=True))).budget_bytes(3, "a") is not None
    assert observed(Transit(5 * MS, "", MediumFeedback(5 * MS, 40 * MS))).budget_bytes(3, "a") is None


@given(
    st.lists(
        st.sampled_from(
            [BUSY, FULL, Transit(MS, "", MediumFeedback(MS, MS)), Transit(None, "on the link", MediumFeedback(MS, 300 * MS))]
        ),
        max_size=40,
    )
)
def test_a_budget_depends_on_feedback_that_is_due_alone(transits: list[Transit]) -> None:
    whole = observed(*transits)
    for tick in range(len(transits) + FEEDBACK_TICKS):
        budget = observed(*transits[: max(0, tick - FEEDBACK_TICKS + 1)]).budget_bytes(tick, "a")
        assert whole.budget_bytes(tick, "a") == budget
        assert budget is None or budget >= FLOOR_BYTES


def test_no_budget_falls_below_the_floor() -> None:
    assert observed(*[FULL] * 60).budget_bytes(99, "a") == FLOOR_BYTES


def test_one_overload_is_answered_once() -> None:
    control = observed(*[BUSY] * 3)
    assert control.budget_bytes(3, "a") == control.budget_bytes(5, "a")
    control.observe(3, "a", 8_000, BUSY, 0)
    assert (control.budget_bytes(6, "a") or 0) < (control.budget_bytes(5, "a") or 0)


def test_unequal_senders_become_equal() -> None:
    network, control = LinkSpec.parse("dsrc").network(0), RateControl(DEADLINE_MS)
    control.observe(0, "small", 2_000, BUSY, 0)
    control.observe(0, "great", NATURAL_BYTES, BUSY, 0)
    sizes = {"small": 2_000, "great": 100_000}
    ratios = []
    for tick in range(1, 300):
        sent = [Transmission(name, tick * PERIOD_MS * MS, control.budget_bytes(tick, name) or size) for name, size in sizes.items()]
        ratios.append(sent[1].size_bytes / sent[0].size_bytes)
        for transmission, transit in zip(sent, network.send(tick, sent), strict=True):
            control.observe(tick, transmission.agent_id, transmission.size_bytes, transit, transmission.sent_ns)
    assert ratios[10] > 2.5 > 1.6 > ratios[100]
    assert ratios[-1] == pytest.approx(1, abs=0.05)


def test_a_step_is_bounded_in_both_directions() -> None:
    ages = Transit(10**11, "", MediumFeedback(10**11, 10**11))
    control = observed(BUSY, BUSY, BUSY, ages)
    assert (control.budget_bytes(6, "a") or 0) > (control.budget_bytes(3, "a") or 0) / 4
    idle = observed(BUSY, BUSY, BUSY, Transit(0, "", MediumFeedback(0, 0)))
    assert 1 < (idle.budget_bytes(6, "a") or 0) / (idle.budget_bytes(3, "a") or 1) < 4


def test_a_message_that_comes_after_a_later_one_is_ignored() -> None:
    control = observed(BUSY, BUSY, BUSY, BUSY)
    before = [control.budget_bytes(tick, "a") for tick in range(10)]
    control.observe(1, "a", 1_000_000, FULL, 0)
    assert [control.budget_bytes(tick, "a") for tick in range(10)] == before


def test_a_message_that_does_not_fill_its_budget_lets_it_grow_no_further() -> None:
    control = observed(BUSY)
    for tick in range(1, 40):
        control.observe(tick, "a", 5_000, Transit(MS, "", MediumFeedback(MS, MS)), 0)
    assert control.budget_bytes(50, "a") == 10_000
