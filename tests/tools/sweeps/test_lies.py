"""Lies of senders in a sweep: only the liars' messages differ, each in the way of its lie, and they go the way of all messages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from heal.agent_types import same_type
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.agents.tick_plan import AgentStep, Missing, TickPlan
from heal.datasets.town import TownSource
from heal.errors import UserError
from heal.grid import BevGrid
from heal.message.message import Message
from heal.tools.sweeps import map_lies, scale_lies
from heal.tools.sweeps.conditions import Common, sweep_conditions
from heal.tools.sweeps.learned_lies import learned
from heal.tools.sweeps.lies import LIES, OLD_TICKS, lies_of
from heal.tools.sweeps.lying import ABSENT, Liars, LieMemory, LyingRuntime, Shared
from heal.tools.sweeps.memo import MemoAlliance, MemoSource
from heal.tools.sweeps.patches import Patches
from heal.types import Split
from tests.agents.tiny_run import TinyAlliance

AGENTS = EGO, FIRST, SECOND = "1000", "-1", "1001"
TICK = OLD_TICKS
SOURCE = MemoSource(TownSource("test", seed=1, ticks=TICK + 2))
ALLIANCE = MemoAlliance(TinyAlliance())


class _Heard(LyingRuntime):
    """A run that keeps what its agents have sent."""

    def _fuse(self, plan: TickPlan, steps: Sequence[AgentStep[bytes] | Missing]) -> TickResult:
        self.sent = {step.report.agent_id: step.payload for step in steps if isinstance(step, AgentStep)}
        return super()._fuse(plan, steps)


def _run(liars: Liars, split: Split = "pyramid", tick: int = TICK) -> tuple[dict[str, bytes], TickResult]:
    """Return what each agent has sent in a tick, and the result."""
    shared = Shared(3, ALLIANCE.base.fusion.trunk, LieMemory(64))
    with _Heard(ALLIANCE, SOURCE, same_type("m1"), options=RunOptions(split=split)).lying(liars, shared) as runtime:
        [result] = runtime.run([tick])
        return runtime.sent, result


def _message(lie: str, split: Split = "pyramid", tick: int = TICK) -> Message:
    return Message.from_bytes(_run(Liars(lie, 1), split, tick)[0][FIRST])


@pytest.mark.parametrize("split", ["feature", "pyramid"])
def test_only_the_messages_of_the_liars_differ(split: Split) -> None:
    honest, _ = _run(Liars("times 3", 0), split)
    for lie in (
        name for name in lies_of(LIES, split) if "cars" not in name and name != "learned"
    ):  # their vehicles have no room on a tiny map
        for liars, expected in (
            (Liars(lie, 1), {FIRST}),
            (Liars(lie, 1, turn=1), {SECOND}),
            (Liars(lie, 5), {FIRST, SECOND}),
        ):
            sent, result = _run(liars, split)
            assert {agent_id for agent_id in AGENTS if sent[agent_id] != honest[agent_id]} == expected, lie
            assert result.counts.arrived == 2


def test_who_sends_nothing_is_not_there_and_there_is_as_much_to_find() -> None:
    _, result = _run(Liars(ABSENT, 1))
    assert [record.status for record in result.messages if record.agent_id == FIRST] == ["not sent"]
    assert len(result.ground_truth) == len(_run(Liars("times 3", 0))[1].ground_truth)


def test_a_lie_of_a_map_is_the_map_and_its_scales_under_either_split() -> None:
    honest, loud = (_message(lie, "feature") for lie in ("pose 2 m off", "times 10"))
    np.testing.assert_array_equal(loud.maps[0], 10 * honest.maps[0])
    scales = _message("times 10")
    with torch.no_grad():
        expected = ALLIANCE.trunk.trunk(torch.from_numpy(loud.maps[0].copy())[None])
    for sent, level in zip(scales.maps, expected.maps, strict=True):
        np.testing.assert_array_equal(sent, level[0].numpy())


def test_noise_has_the_mean_and_the_spread_of_the_map_and_is_the_same_in_every_run() -> None:
    honest, noise = _message("pose 2 m off", "feature").maps[0], _message("noise", "feature").maps[0]
    np.testing.assert_allclose(noise.mean(axis=(1, 2)), honest.mean(axis=(1, 2)), atol=0.1)
    np.testing.assert_allclose(noise.std(axis=(1, 2)), honest.std(axis=(1, 2)), atol=0.1)
    assert np.array_equal(noise, _message("noise", "feature").maps[0])
    assert not np.array_equal(noise, _message("noise", "feature", TICK + 1).maps[0])


def test_a_wrong_pose_is_off_in_the_world_by_as_much_as_its_name_says() -> None:
    true = SOURCE.agent_frame(TICK, FIRST).world_SE3_agent
    moved, turned = _message("pose 5 m off").world_SE3_agent, _message("yaw 30 degrees off").world_SE3_agent
    np.testing.assert_allclose(moved[:3, 3] - true[:3, 3], [5, 0, 0], atol=1e-9)
    np.testing.assert_allclose(np.degrees(np.arccos((true[:3, :3].T @ turned[:3, :3])[0, 0])), 30, atol=1e-6)
    first, second = (_message("jumping pose", tick=tick).world_SE3_agent[:2, 3] for tick in (TICK, TICK + 1))
    drift = np.subtract(*(SOURCE.agent_frame(tick, FIRST).world_SE3_agent[:2, 3] for tick in (TICK, TICK + 1)))
    assert np.hypot(*(first - second - drift)) > 1


def test_a_replay_is_an_old_map_with_a_new_time() -> None:
    old, new, replayed = (SOURCE.agent_frame(0, FIRST), SOURCE.agent_frame(TICK, FIRST), _message("replay", "feature"))
    assert replayed.timestamp_ns == new.timestamp_ns != old.timestamp_ns
    np.testing.assert_array_equal(replayed.world_SE3_agent, old.world_SE3_agent_measured)
    np.testing.assert_array_equal(replayed.maps[0], ALLIANCE.agent("m1")([old])[0].detach().numpy())
    np.testing.assert_array_equal(_message("replay, new pose").world_SE3_agent, new.world_SE3_agent_measured)


def test_vehicles_are_planted_where_there_are_none_and_erased_where_they_are() -> None:
    grid = BevGrid((-51.2, -51.2, -3, 51.2, 51.2, 1), 0.8)
    patches = Patches.of(np.array([[10.0, 4.1], [-20.0, 8.1]]), grid, np.random.default_rng(0))
    assert patches.cars.tolist() == [[69, 76], [74, 39]] and len(patches.empty) == 3
    assert (np.abs(patches.empty[:, None] - patches.cars[None]).max(axis=2) > patches.radius).all()
    features = torch.arange(128 * 128.0).reshape(1, 1, 128, 128)
    there, free = patches.square(patches.cars[0], 128), patches.square(patches.empty[0], 128)
    planted, erased = map_lies.planted(features, patches, 5.0), map_lies.erased(features, patches)
    assert torch.equal(planted[free], 5 * features[there]) and torch.equal(planted[there], features[there])
    assert torch.equal(erased[there], features[free]) and torch.equal(erased[free], features[free])
    levels, scores = [np.ones((2, 128, 128), np.float32)], [np.full((128, 128), 0.1, np.float32)]
    maps, sure = scale_lies.negated_at_cars(levels, scores, patches)
    assert set(np.unique(maps[0])) == {-5, 1} and (sure[0][there[1:]] == 1).all() and (sure[0] == 1).sum() == 2 * 81
    _, coarse = scale_lies.planted([level[:, ::2, ::2] for level in levels], [score[::2, ::2] for score in scores], patches)
    assert (coarse[0] == 1).sum() == 3 * 25


def test_a_learned_lie_moves_the_foreground_and_stays_in_the_range_of_its_channels() -> None:
    patches = Patches(np.array([[16, 8]]), np.array([[8, 20]]), ny=32, radius=3)
    features = torch.randn(1, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    changed, trunk = learned(features, ALLIANCE.base.fusion.trunk, patches), ALLIANCE.base.fusion.trunk
    with torch.no_grad():
        before, after = (trunk(level).occupancy[0] for level in (features, changed))
    at_car, at_empty = (patches.square(place[0], 32) for place in (patches.cars, patches.empty))
    assert after[at_empty].mean() > before[at_empty].mean() and after[at_car].mean() < before[at_car].mean()
    assert (changed.amax(dim=(2, 3)) <= features.amax(dim=(2, 3))).all()
    outside = torch.ones(32, 32, dtype=torch.bool)
    outside[at_car[1:]] = outside[at_empty[1:]] = False
    assert torch.equal(changed[..., outside], features[..., outside])


def test_lies_of_scales_need_scales_and_all_lies_need_maps() -> None:
    assert set(LIES) - set(lies_of(LIES, "feature")) == {name for name in LIES if "score" in name or name.startswith("scales")}
    names = {condition.name for condition in sweep_conditions("attacks", Common(RunOptions(split="pyramid"), 1))}
    assert (
        sum(name.endswith("one, undefended") for name in names) > 20 and sum(name.endswith("two, undefended") for name in names) > 6
    )
    with pytest.raises(UserError, match="split=boxes"):
        sweep_conditions("attacks", Common(RunOptions(split="boxes"), 1))
