"""The selection of a scene's agents: the ego by its type, a limit, a range; and random types for training."""

from __future__ import annotations

import numpy as np
import pytest

from heal.agent_types import draw_types, select_agents, within_range
from heal.se3 import pose_to_SE3

TYPES = {"-1": "m2", "1045": "m1", "1054": "m4"}
AGENTS = ("1045", "1054", "-1")


@pytest.mark.parametrize(
    ("ego_types", "expected"),
    [
        ((), ("1045", "1054", "-1")),
        (("m1",), ("1045", "1054", "-1")),
        (("m4",), ("1054", "1045", "-1")),
        (("m2", "m4"), ("1054", "1045", "-1")),  # a vehicle before the roadside unit
        (("m2",), ("-1", "1045", "1054")),
        (("m7",), ("1045", "1054", "-1")),
    ],
)
def test_the_first_agent_of_a_fitting_type_is_the_ego(ego_types: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert select_agents(AGENTS, TYPES, ego_types) == expected


def test_the_reference_lets_a_roadside_unit_lead_and_sorts_the_others() -> None:
    assert select_agents(AGENTS, TYPES, ("m2", "m4"), compat_heal=True) == ("-1", "1045", "1054")
    assert select_agents(AGENTS, TYPES, ("m4",), compat_heal=True) == ("1054", "-1", "1045")


def test_the_limit_counts_the_ego_and_comes_after_its_choice() -> None:
    assert select_agents(AGENTS, TYPES, ("m4",), max_agents=2) == ("1054", "1045")
    assert select_agents(AGENTS, TYPES, max_agents=1) == ("1045",)


def test_range_is_planar_and_the_ego_stays() -> None:
    poses = [pose_to_SE3([x, y, z, 0, 0, 0]) for x, y, z in ((10, 0, 0), (10, 70, 50), (10, 70.1, 0), (-59, 10, 0))]
    assert within_range(("ego", "a", "b", "c"), poses, 70.0) == ("ego", "a", "c")
    assert within_range(("ego",), poses[:1], 0.0) == ("ego",)


def test_random_types_follow_their_shares() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_types(("a", "b", "c"), ("m1", "m2"), {"m3": 3.0, "m4": 1.0}, rng) for _ in range(1000)]
    assert {types["a"] for types in drawn} == {"m1", "m2"}
    others = [types[agent] for types in drawn for agent in ("b", "c")]
    assert set(others) == {"m3", "m4"} and 0.72 < others.count("m3") / len(others) < 0.78
    assert draw_types(("a",), ("m1",), {"m3": 1.0}, rng) == {"a": "m1"}
