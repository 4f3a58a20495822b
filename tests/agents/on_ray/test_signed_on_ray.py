"""Signed runs on Ray: what a run in one process gives, and keys that change while the run goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from heal.agents.deployment import Deployment, PlannedFault
from heal.agents.local_runtime import LocalRuntime
from heal.agents.message_records import MessageRecord
from heal.agents.network.spec import LinkSpec
from heal.agents.on_ray.runtime import RayRuntime
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.errors import UserError
from heal.identity.allow_list import now
from heal.identity.key_folder import add_agents, revoke_keys, roll_keys
from heal.identity.keys import private_key_path
from tests.agents.tiny_run import TinyAlliance, TinySource, assert_same_results, by_id

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]
ALLIANCE = TinyAlliance()
SOURCE = TinySource(scenarios=(("ego", "b", "c"),), ticks_each=8)
TYPES = by_id({"ego": "m1", "b": "m1", "c": "m2"})
LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)
AT_ONCE = Deployment(pipeline=0)


@pytest.fixture
def options(tmp_path: Path) -> RunOptions:
    """Return the options of a signed run with keys for agents ego and b; c has none."""
    add_agents(tmp_path / "keys", ["ego", "b"], LONG_AGO, None)
    return RunOptions(late="drop", keys=str(tmp_path / "keys"))


def on_ray(
    options: RunOptions, deployment: Deployment, link: str = "perfect", between: Callable[[int], None] = lambda tick: None
) -> list[TickResult]:
    with RayRuntime(ALLIANCE, SOURCE, TYPES, LinkSpec.parse(link).network(5), options, deployment) as runtime:
        results = []
        for result in runtime.run(range(8)):
            results.append(result)
            between(result.tick)
        return results


def in_one_process(options: RunOptions, link: str = "perfect") -> list[TickResult]:
    with LocalRuntime(ALLIANCE, SOURCE, TYPES, LinkSpec.parse(link).network(5), options) as runtime:
        return list(runtime.run(range(8)))


def kinds_of(results: list[TickResult], agent_id: str) -> list[str]:
    return [record.kind for result in results for record in result.messages if record.agent_id == agent_id]


@pytest.mark.parametrize("region_m", [None, 16.0])
def test_a_signed_run_is_that_of_one_process(options: RunOptions, region_m: float | None) -> None:
    options, link = replace(options, region_m=region_m, late="weigh"), "delay:60,jitter:80,loss:0.2"
    ours = on_ray(options, Deployment(fusion_nodes=2 if region_m else 1), link)
    assert_same_results(ours, in_one_process(options, link))
    assert "used" in kinds_of(ours, "b") and "rejected: unsigned" in kinds_of(ours, "c")


def test_keys_are_revoked_and_rolled_over_while_a_run_goes_on(options: RunOptions) -> None:
    keys = Path(options.keys or "")

    def between(tick: int) -> None:
        if tick == 1:
            revoke_keys(keys, ["b"], now())
            add_agents(keys, ["c"], LONG_AGO, None)
        if tick == 4:
            roll_keys(keys, ["b", "c"], now(), timedelta(hours=1), None)

    results = on_ray(options, AT_ONCE, between=between)
    assert kinds_of(results, "b") == ["used"] * 2 + ["rejected: key revoked"] * 3 + ["used"] * 3
    assert kinds_of(results, "c") == ["rejected: unsigned"] * 2 + ["used"] * 6


def test_actors_that_start_again_sign_and_verify_as_before(options: RunOptions) -> None:
    """An agent uses no number twice, and a fusion node refuses nothing but what was used before it was away."""
    faults = (PlannedFault("crash", "b", 2), PlannedFault("crash", "node", 5))
    deployment = Deployment(faults=faults, restart_ms=100.0, hang_s=600.0)
    ours, plain = (on_ray(one, deployment) for one in (options, replace(options, keys=None)))
    assert kinds_of(ours, "b") == kinds_of(plain, "b") and "used" in kinds_of(ours, "b")[6:]


def test_a_fusion_node_that_starts_again_uses_no_message_again(options: RunOptions) -> None:
    """In its first tick it gets the message of the tick before it was away, which is not too old yet."""
    deployment, recorded = Deployment(faults=(PlannedFault("crash", "node", 4),), hang_s=600.0), dict[int, Any]()
    with RayRuntime(ALLIANCE, SOURCE, TYPES, None, options, deployment) as runtime:
        deliver = runtime._coordinator._mailbox.post

        def replay(record: MessageRecord, payload: Any) -> None:
            if record.agent_id == "b":
                recorded[record.tick] = payload
                payload = recorded[3] if record.tick == 5 else payload
            deliver(record, payload)

        runtime._coordinator._mailbox.post = replay  # type: ignore[method-assign]
        results = list(runtime.run(range(8)))
    assert [fault.kind for result in results for fault in result.faults] == ["fusion node crashed", "fusion node restarted"]
    kinds = kinds_of(results, "b")
    assert kinds[:4] == ["used"] * 4 and kinds[4] != "used" and kinds[5:] == ["rejected: replayed", "used", "used"]


def test_an_agent_whose_private_key_others_can_read_has_failed(options: RunOptions) -> None:
    private_key_path(Path(options.keys or ""), "b").chmod(0o644)
    results = on_ray(options, AT_ONCE)
    assert set(kinds_of(results, "b")) == {"not sent: agent failed"}
    assert "others can read this private key" in results[0].messages[1].detail


def test_a_run_without_a_list_ends_before_an_actor_is_started(options: RunOptions) -> None:
    with pytest.raises(UserError, match="heal keys new"):
        on_ray(replace(options, keys="/nowhere"), AT_ONCE)
