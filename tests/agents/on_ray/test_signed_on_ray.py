"""Signed runs on Ray: what a run in one process gives, and keys that change while the run goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from heal.agents.deployment import Deployment
from heal.agents.local_runtime import LocalRuntime
from heal.agents.network.spec import LinkSpec
from heal.agents.on_ray.runtime import RayRuntime
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.errors import UserError
from heal.identity.allow_list import now
from heal.identity.key_folder import add_agents, revoke_keys, roll_keys
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


def test_a_run_without_a_list_ends_before_an_actor_is_started(options: RunOptions) -> None:
    with pytest.raises(UserError, match="heal keys new"):
        on_ray(replace(options, keys="/nowhere"), AT_ONCE)
