"""Spoiled senders of a sweep: the right agents are spoiled, and each in the way of its kind."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from heal.agents.options import RunOptions
from heal.datasets.town import TownSource
from heal.tools.sweeps.memo import MemoAlliance
from heal.tools.sweeps.senders import AHEAD_M, SENDER_KINDS, BadSenders
from heal.types import AgentFrame
from tests.agents.tiny_run import TinyAlliance

AGENTS = EGO, NEAREST, FARTHEST = "1000", "-1", "1001"


@cache
def _town() -> tuple[TownSource, MemoAlliance]:
    return TownSource("test", seed=1, ticks=2), MemoAlliance(TinyAlliance())


def _sensed(kind: str, everyone: bool, index: int = 0) -> dict[str, tuple[AgentFrame, Tensor]]:
    """Return the frame and the map of each agent under spoiled senders, the ego's last."""
    source, alliance = _town()
    spoiling, spoiled = BadSenders(kind, everyone).around(alliance, source, 3, RunOptions())
    result = {}
    for agent_id in AGENTS[::-1]:
        frame = spoiled.agent_frame(index, agent_id)
        result[agent_id] = frame, spoiling.agent("m1")(spoiling.agent("m1").prepare([frame]))
    return result


def _honest(agent_id: str, index: int = 0) -> tuple[AgentFrame, Tensor]:
    source, alliance = _town()
    frame = source.agent_frame(index, agent_id)
    return frame, alliance.agent("m1")([frame])


def _is_spoiled(agent_id: str, frame: AgentFrame, features: Tensor) -> bool:
    honest, honest_map = _honest(agent_id)
    moved = not np.array_equal(frame.world_SE3_agent_measured, honest.world_SE3_agent_measured)
    return moved or not torch.equal(features, honest_map)


@pytest.mark.parametrize("kind", SENDER_KINDS)
def test_the_nearest_sender_or_all_are_spoiled_and_never_the_ego(kind: str) -> None:
    for everyone, expected in ((False, [False, True, False]), (True, [False, True, True])):
        sensed = _sensed(kind, everyone)
        assert [_is_spoiled(agent_id, *sensed[agent_id]) for agent_id in (EGO, NEAREST, FARTHEST)] == expected


def test_an_agent_that_takes_no_part_is_not_spoiled() -> None:
    source, alliance = _town()
    ego_id, second, third = source.outline(0).ego_first
    assert (ego_id, {second, third}) == (EGO, {NEAREST, FARTHEST})
    for agents, expected in ((2, {second}), (3, {second, third})):
        _, spoiled = BadSenders("misplaced", everyone=True).around(alliance, source, 3, RunOptions(agents=agents))
        frames = {agent_id: spoiled.agent_frame(0, agent_id) for agent_id in AGENTS}
        moved = {key for key, frame in frames.items() if not np.array_equal(frame.world_SE3_agent_measured, frame.world_SE3_agent)}
        assert moved == expected
    _, spoiled = BadSenders("misplaced", everyone=False).around(alliance, source, 3, RunOptions(agents=2))
    frame = spoiled.agent_frame(0, second)
    assert not np.array_equal(frame.world_SE3_agent_measured, frame.world_SE3_agent)


def test_each_kind_spoils_in_its_way() -> None:
    honest, honest_map = _honest(NEAREST)
    blind, _ = _sensed("blind", everyone=False)[NEAREST]
    assert blind.lidar is not None and len(blind.lidar.points) == 0
    assert np.array_equal(blind.objects.ids, honest.objects.ids)  # there is as much to find as without it
    misplaced, _ = _sensed("misplaced", everyone=False)[NEAREST]
    offset = misplaced.world_SE3_agent_measured[:3, 3] - honest.world_SE3_agent_measured[:3, 3]
    assert offset @ honest.world_SE3_agent_measured[:3, 0] == pytest.approx(AHEAD_M)
    _, loud = _sensed("times 10", everyone=False)[NEAREST]
    torch.testing.assert_close(loud, 10 * honest_map)
    (_, noise), (_, again), (_, later) = (_sensed("noise", False, index)[NEAREST] for index in (0, 0, 1))
    assert torch.equal(noise, again) and not torch.equal(noise, later)
    torch.testing.assert_close(noise.mean(dim=(2, 3)), honest_map.mean(dim=(2, 3)), atol=0.1, rtol=0)
    torch.testing.assert_close(noise.std(dim=(2, 3)), honest_map.std(dim=(2, 3)), atol=0.1, rtol=0.1)
