"""The selection of a scene's agents: the ego by its type, a limit, a range; and random types for training."""

from __future__ import annotations

import numpy as np
import pytest

from heal.agent_types import draw_types, in_range, select_agents
from heal.se3 import pose_to_SE3

TYPES = {"-1": "m2", "1045": "m1", "1054": "m4"}
AGENTS = ("1045", "1054", "-1")


@pytest.mark.parametrize(
    ("ego_types", "expected"),
    [
        ((), ("1045", "1054", "-1")),
        (("m1",), ("1045", "1054", "-1")),
        (("m4",), ("1054", "-1", "1045")),  # the others sorted by name, as strings
        (("m2", "m4"), ("-1", "1045", "1054")),  # the first in the order of the assignment, even a roadside unit
        (("m7",), ("1045", "1054", "-1")),
    ],
)
def test_the_first_agent_of_a_fitting_type_is_the_ego(ego_types: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert select_agents(AGENTS, TYPES, ego_types) == expected


def test_an_assigned_agent_that_is_not_in_the_scene_is_no_ego() -> None:
    assert select_agents(AGENTS, {"9": "m4", **TYPES}, ("m4",)) == ("1054", "-1", "1045")


def test_the_limit_counts_the_ego_and_comes_after_its_choice() -> None:
    assert select_agents(AGENTS, TYPES, ("m4",), max_agents=2) == ("1054", "-1")
    assert select_agents(AGENTS, TYPES, max_agents=1) == ("1045",)
    assert select_agents(tuple("abcdefg"), {}) == tuple("abcde") and len(select_agents(tuple("abcdefg"), {}, max_agents=None)) == 7


def test_range_is_planar_and_its_bound_is_inside() -> None:
    ego, *others = (pose_to_SE3([x, y, z, 0, 0, 0]) for x, y, z in ((10, 0, 0), (10, 70, 50), (10, 70.1, 0), (-59, 10, 0)))
    assert [in_range(ego, pose, 70.0) for pose in others] == [True, False, True]
    assert in_range(ego, ego, 0.0)


def test_random_types_follow_their_shares() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_types(("a", "b", "c"), ("m1", "m2"), {"m3": 3.0, "m4": 1.0}, rng) for _ in range(1000)]
    assert {types["a"] for types in drawn} == {"m1", "m2"}
    others = [types[agent] for types in drawn for agent in ("b", "c")]
    assert set(others) == {"m3", "m4"} and 0.72 < others.count("m3") / len(others) < 0.78
    assert draw_types(("a",), ("m1",), {"m3": 1.0}, rng) == {"a": "m1"}
