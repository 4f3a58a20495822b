"""The results of many calls are waited for at once: each is stamped when it comes, and one that hangs makes no other late."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from heal.agents.deployment import Deployment
from heal.agents.on_ray import actors, node_pool, runtime, waiting
from heal.agents.on_ray.actors import TOO_SLOW, fetch_messages
from heal.agents.on_ray.node_pool import NodeJob, NodeJobs, NodePool, fetch_limit_s
from heal.agents.on_ray.runtime import RayRuntime
from heal.agents.options import RunOptions
from heal.agents.pacer import Pacer
from heal.agents.records import LOST_WITH_MACHINE, Arrival, Rejection, Sender

NEVER = float("inf")


class TimeoutExpiredError(Exception):
    """Stands for Ray's error of a get that takes too long."""


class LostError(Exception):
    """Stands for Ray's error of an object whose machine is gone."""


class FakeRay:
    """A Ray in which time passes only while somebody waits; a reference is the time at which its result comes."""

    def __init__(self) -> None:
        self.now_s, self.waits = 0.0, 0
        self.exceptions = SimpleNamespace(GetTimeoutError=TimeoutExpiredError)
        self.broken: set[float] = set()

    def monotonic(self) -> float:
        return self.now_s

    def wait(self, references: Sequence[float], num_returns: int, timeout: float) -> tuple[list[float], list[float]]:
        assert len(set(references)) == len(references) and 1 <= num_returns <= len(references)
        self.waits += 1
        self.now_s = max(self.now_s, min(self.now_s + timeout, sorted(references)[num_returns - 1]))
        done = sorted(one for one in references if one <= self.now_s)[:num_returns]
        return done, [one for one in references if one not in done]

    def get(self, reference: float, timeout: float) -> bytes:
        if reference in self.broken:
            raise LostError
        if reference > self.now_s:
            self.now_s += timeout
            raise TimeoutExpiredError
        return b"map"


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    for module in (waiting, actors, runtime):
        monkeypatch.setattr(module, "ray", fake)
        monkeypatch.setattr(module, "monotonic", fake.monotonic)
    monkeypatch.setattr(node_pool, "ray", fake)
    monkeypatch.setattr(actors, "DIED_ERRORS", (LostError,))
    return fake


def test_every_result_is_stamped_when_it_comes_whatever_its_turn(ray: FakeRay) -> None:
    assert waiting.done_times([0.02, NEVER, 0.05, 0.01], until_s=0.1) == [0.02, None, 0.05, 0.01]
    assert ray.now_s == 0.1
    assert waiting.done_times([], until_s=0.2) == [] and ray.now_s == 0.1
    assert waiting.done_times([0.15, 0.12], until_s=9.0) == [0.15, 0.12] and ray.now_s == 0.15


def test_results_that_are_there_already_are_taken_together(ray: FakeRay) -> None:
    ray.now_s = 1.0
    assert waiting.done_times([one / 1000 for one in range(100)], until_s=0.5) == [1.0] * 100
    assert ray.waits == 2


def test_a_result_that_is_needed_is_waited_for_and_what_comes_meanwhile_counts(ray: FakeRay) -> None:
    assert waiting.done_times([0.02, 0.3, 0.25, 0.4], 0.1, needed=0.3, needed_until_s=1.0) == [0.02, 0.3, 0.25, None]
    assert ray.now_s == 0.3
    assert waiting.done_times([0.35, NEVER], 0.4, needed=NEVER, needed_until_s=0.6) == [0.35, None] and ray.now_s == 0.6
    # A result that is needed and there early keeps nobody from the deadline.
    assert waiting.done_times([0.7, 0.75], 0.8, needed=0.7, needed_until_s=9.0) == [0.7, 0.75] and ray.now_s == 0.75


@pytest.mark.parametrize(
    ("rate_hz", "own", "expected", "ended_s"),
    [
        (None, "", [0.0, None, 0.0, 0.0], 3.0),  # in simulated time all are given the time of a hang, together
        (10.0, "", [20.0, None, 50.0, None], 0.1),  # by the wall clock, the deadline
        (10.0, "d", [20.0, None, 50.0, 400.0], 0.4),  # and the time that the ego takes
        (10.0, "b", [20.0, None, 50.0, 400.0], 3.0),  # but an ego that hangs is not waited for any longer than that
        (5.0, "", [10.0, None, 25.0, None], 0.2),  # at half the rate, twice the time
    ],
)
def test_an_agent_that_hangs_makes_no_other_late(
    ray: FakeRay, rate_hz: float | None, own: str, expected: list[float | None], ended_s: float
) -> None:
    """The second of four agents hangs and the fourth is slow."""
    run = RayRuntime.__new__(RayRuntime)
    run._options, run._deployment = RunOptions(realtime=rate_hz is not None), Deployment(hang_s=3.0)
    pacer = None if rate_hz is None else Pacer(rate_hz)
    run._coordinator = cast(Any, SimpleNamespace(pacer=pacer))
    jobs: list[Any] = [
        SimpleNamespace(done=come_s, reports=[come_s], began_s=0.0, agent_ids=(name,))
        for name, come_s in zip("abcd", (0.02, NEVER, 0.05, 0.4), strict=True)
    ]
    plan = cast(Any, SimpleNamespace(own=own))
    assert run._done_in_time(plan, jobs) == pytest.approx(expected)
    assert ray.now_s == ended_s
    assert run._done_in_time(plan, []) == []


def test_fusion_nodes_that_hang_are_waited_for_together(ray: FakeRay) -> None:
    """Two of four hang and one is away: that costs the time of one hang, and the others' outcomes count."""
    broken: list[tuple[int, bool]] = []

    def process(number: int) -> Any:
        return SimpleNamespace(
            broke=lambda generation, hung: broken.append((number, hung)), results=lambda call, generation: [outcomes[number]]
        )

    outcomes = [SimpleNamespace(used_sequences={b"key": number}) for number in range(4)]
    pool = NodePool.__new__(NodePool)
    pool._deployment, pool._used_sequences = Deployment(hang_s=3.0), {}
    calls = [NEVER, 0.5, 1e9, None]
    jobs = tuple(NodeJob(process(number), (number,), 0, call) for number, call in enumerate(calls))
    assert pool.outcomes(NodeJobs(4, jobs)) == [None, outcomes[1], None, None] and pool._used_sequences == {b"key": 1}
    assert ray.now_s == 3.0 and broken == [(0, True), (2, True)]
    assert pool.outcomes(NodeJobs(1, jobs[3:])) == [None]


def fetched(references: list[Any], limit_s: float) -> list[Arrival | Rejection]:
    senders: list[Sender] = [(f"agent {place}", 7) for place in range(len(references))]
    found = fetch_messages(senders, references, limit_s)
    assert list(found) == senders
    return list(found.values())


def test_all_messages_that_cannot_be_fetched_cost_one_limit_together(ray: FakeRay) -> None:
    assert fetched([0.5, NEVER, 1e9, 1.5, 0.1], limit_s=2.0) == [
        Arrival("agent 0", b"map", 7),
        Rejection("agent 1", 7, LOST_WITH_MACHINE, TOO_SLOW),
        Rejection("agent 2", 7, LOST_WITH_MACHINE, TOO_SLOW),
        Arrival("agent 3", b"map", 7),
        Arrival("agent 4", b"map", 7),
    ]
    assert ray.now_s == 2.0
    assert fetched([], limit_s=2.0) == []


def test_a_message_whose_machine_is_gone_is_lost_and_no_other(ray: FakeRay) -> None:
    ray.broken = {0.5}
    first, second = fetched([0.5, 0.6], limit_s=2.0)
    assert first == Rejection("agent 0", 7, LOST_WITH_MACHINE, "LostError") and isinstance(second, Arrival)


def test_messages_are_waited_for_shorter_than_a_node_may_be_silent() -> None:
    deployment = Deployment(hang_s=60)
    assert fetch_limit_s(deployment, RunOptions()) == 20
    assert fetch_limit_s(deployment, RunOptions(realtime=True, deadline_ms=150)) == 0.15
    assert fetch_limit_s(deployment, RunOptions(realtime=True, deadline_ms=0)) == 0.1
    assert fetch_limit_s(Deployment(hang_s=0.3), RunOptions(realtime=True)) < 0.3 / 2
