"""Correction by boxes: right where agents share vehicles, no change where they do not, robust to boxes that lie."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from heal.box_corners import boxes_to_corners
from heal.detection.detections import Detections
from heal.pose_correction.boxes import DEFAULT, PlacedBoxes, SeenBoxes, vehicles_of
from heal.pose_correction.by_boxes import BoxGraph, motions_by_boxes
from heal.pose_correction.motions import with_motions
from heal.se3 import inverse_SE3, pose_to_SE3, relative_SE3
from heal.types import Float64

# x, y in metres and yaw in degrees, in the world.
EGO, B, C = (0.0, 0.0, 0.0), (25.0, 10.0, 120.0), (-15.0, 20.0, -60.0)
ERRORS = ((0.0, 0.0, 0.0), (0.9, -0.7, 1.2), (-0.6, 0.8, -0.9))


def pose(place: Sequence[float]) -> Float64:
    return pose_to_SE3([place[0], place[1], 0.0, 0.0, place[2], 0.0])


def vehicles(count: int = 12, seed: int = 0) -> Float64:
    """Return (N, 3) x, y and yaw in radians of vehicles around the agents, at least 8 m apart."""
    rng, places = np.random.default_rng(seed), np.zeros((0, 3))
    while len(places) < count:
        place = rng.uniform((-30, -25, -math.pi), (40, 35, math.pi))
        if not len(places) or np.hypot(*(places - place)[:, :2].T).min() > 8:
            places = np.vstack([places, place])
    return places


def seen_from(world_SE3_agent: Float64, places: Float64, spread_m: float = 0.0, seed: int = 0, turned: bool = False) -> SeenBoxes:
    """Return the boxes of vehicles in an agent's frame; `turned` boxes point backwards."""
    rng, agent = np.random.default_rng(seed), inverse_SE3(world_SE3_agent)
    here = places[:, :2] @ agent[:2, :2].T + agent[:2, 3] + rng.normal(0, spread_m, (len(places), 2))
    yaws = places[:, 2] + math.atan2(agent[1, 0], agent[0, 0]) + math.pi * turned
    return SeenBoxes(np.column_stack([here, yaws]), np.full(len(places), 0.9))


def measured_as(place: Sequence[float], error: Sequence[float]) -> Float64:
    return pose([value + off for value, off in zip(place, error, strict=True)])


def off_m(agent_SE3_ego: Float64, place: Sequence[float]) -> float:
    """Return by how many metres a pose misplaces points 30 m around the ego, at most."""
    truly, ring = relative_SE3(pose(place), pose(EGO)), np.radians(np.arange(0, 360, 30))
    points = np.stack([30 * np.cos(ring), 30 * np.sin(ring), 0 * ring, 1 + 0 * ring])
    return float(np.linalg.norm(((agent_SE3_ego - truly) @ points)[:2], axis=0).max())


def corrected(seen: Sequence[SeenBoxes], errors: Sequence[Sequence[float]] = ERRORS) -> list[Float64]:
    """Return `agent_SE3_ego` after correction, of the first agents in turn."""
    measured = [relative_SE3(measured_as(*one), pose(EGO)) for one in zip((EGO, B, C), errors, strict=True)][: len(seen)]
    motions = motions_by_boxes(seen, [inverse_SE3(one) for one in measured], ego_first=True)
    return with_motions(measured, motions, ego_first=True)


@pytest.mark.parametrize("turned", [False, True])
def test_exact_boxes_give_the_true_poses_even_if_they_point_backwards(turned: bool) -> None:
    places = vehicles()
    poses = corrected([seen_from(pose(EGO), places), seen_from(pose(B), places, turned=turned), seen_from(pose(C), places)])
    assert np.array_equal(poses[0], np.eye(4))
    assert max(off_m(poses[1], B), off_m(poses[2], C)) < 0.05  # the prior holds them back by little


def test_noisy_boxes_of_many_vehicles_give_nearly_the_true_poses() -> None:
    seen = [seen_from(pose(place), vehicles(), 0.2, seed) for seed, place in enumerate((EGO, B, C))]
    lost = [relative_SE3(measured_as(place, error), pose(EGO)) for place, error in zip((B, C), ERRORS[1:], strict=True)]
    before = [off_m(found, place) for found, place in zip(lost, (B, C), strict=True)]
    after = [off_m(found, place) for found, place in zip(corrected(seen)[1:], (B, C), strict=True)]
    assert min(before) > 1.0 and max(after) < 0.35


def test_an_agent_that_shares_nothing_with_the_ego_is_corrected_through_another() -> None:
    places = vehicles()
    near, far = places[places[:, 0] < 12], places[places[:, 0] > 0]
    assert not set(map(tuple, near.tolist())) >= set(map(tuple, far.tolist()))
    only_far = far[far[:, 0] > 12]
    poses = corrected([seen_from(pose(EGO), near), seen_from(pose(B), places), seen_from(pose(C), only_far)])
    assert max(off_m(poses[1], B), off_m(poses[2], C)) < 0.4


def test_right_poses_and_agents_without_shared_vehicles_stay_as_they_are() -> None:
    places, none = vehicles(), ((0.0, 0.0, 0.0),) * 3
    seen = [seen_from(pose(place), places, 0.15, seed) for seed, place in enumerate((EGO, B, C))]
    for found, place in zip(corrected(seen, none), (EGO, B, C), strict=True):
        assert np.array_equal(found, relative_SE3(pose(place), pose(EGO)))
    apart = [seen_from(pose(EGO), places[:4]), seen_from(pose(B), places[4:8]), seen_from(pose(C), places[8:])]
    empty = SeenBoxes(np.zeros((0, 3)), np.zeros(0))
    for boxes in (apart, [empty] * 3, [seen[0], empty, empty]):
        assert np.array_equal(corrected(boxes)[1], relative_SE3(measured_as(B, ERRORS[1]), pose(EGO)))


def test_boxes_that_lie_do_not_spoil_the_poses_of_others() -> None:
    places = vehicles()
    honest = [seen_from(pose(place), places, 0.1, seed) for seed, place in enumerate((EGO, B))]
    moved = places.copy()
    moved[:3, :2] += (2.0, -1.5)  # three vehicles have driven on since b looked
    spoiled = [honest[0], seen_from(pose(B), moved, 0.1, 1)]
    assert off_m(corrected(spoiled)[1], B) < 0.5
    liar = seen_from(pose(C), np.random.default_rng(5).uniform((-30, -25, -3), (40, 35, 3), (40, 3)))
    assert off_m(corrected([*honest, liar])[1], B) < 0.5


def test_in_a_region_all_agents_share_the_correction() -> None:
    places = vehicles()
    seen = [seen_from(pose(place), places) for place in (EGO, B)]
    measured = [pose(EGO), measured_as(B, ERRORS[1])]
    motions = motions_by_boxes(seen, measured, ego_first=False)
    assert motions is not None
    ego, b = with_motions([inverse_SE3(one) for one in measured], motions, ego_first=False)
    assert off_m(b @ inverse_SE3(ego), B) < 0.1
    assert 0.1 < np.linalg.norm((ego @ pose(EGO))[:2, 3]) < 1.0, "the ego takes a part of it"


def test_a_vehicle_has_one_box_of_an_agent_and_the_nearest_are_joined_first() -> None:
    row = [[20, 0, 0], [20, 1.9, 0], [20, 3.8, 0]]
    places = np.array([[0.0, 0, 0], [1.0, 0, 0.1], [1.4, 0, math.pi], [9, 9, 0], [9.1, 9, 1.2], *row])
    owners = np.array([0, 1, 0, 0, 1, 0, 1, 2])
    # b's box is nearer to the ego's second one, turned by half a turn; the boxes at 9 m are turned too far; three agents join.
    assert vehicles_of(places, owners, 2.0, 0.5).tolist() == [-1, 0, 0, -1, -1, 1, 1, 1]
    assert vehicles_of(np.zeros((0, 3)), np.zeros(0, np.intp), 2.0, 0.5).tolist() == []


def test_a_step_is_that_of_the_whole_graph_with_the_vehicles_as_nodes() -> None:
    """Without the kernel, the vehicles' nodes eliminated or not, least squares end at the same poses of the agents."""
    config = type(DEFAULT)(kernel=1e12)
    seen = [seen_from(pose(place), vehicles(6), 0.1, seed) for seed, place in enumerate((EGO, B, C))]
    frames = [measured_as(*one) for one in zip((EGO, B, C), ERRORS, strict=True)]
    boxes = PlacedBoxes.of(seen, frames, config)
    graph = BoxGraph.of(boxes, np.zeros((3, 3)), 4.0, config)
    assert int(graph.vehicles.max()) == 5 and len(graph.vehicles) == 18
    errors, free = np.zeros((3, 3)), np.repeat([False, True, True], 3)
    for _ in range(6):
        errors = graph.step(errors, free)
    spreads = config.spread_m * np.array([math.radians(config.deg_per_m), 1, 1])

    def residuals(unknown: Float64) -> Float64:
        agents = np.concatenate([np.zeros((1, 3)), unknown[:6].reshape(2, 3)])
        off = graph.boxes.corrected(agents) - unknown[6:].reshape(6, 3)[graph.vehicles]
        return np.concatenate([(off * np.sqrt(graph.boxes.precisions)).ravel(), (agents / spreads).ravel()])

    first = np.array([graph.boxes.corrected(np.zeros((3, 3)))[graph.vehicles == k][0] for k in range(6)])
    whole = np.concatenate([np.zeros(6), first.ravel()])
    for _ in range(6):
        slopes = np.stack(
            [(residuals(whole + step) - residuals(whole - step)) / 2e-6 for step in 1e-6 * np.eye(len(whole))], axis=1
        )
        whole = whole - np.linalg.lstsq(slopes, residuals(whole), rcond=None)[0]
    np.testing.assert_allclose(errors[1:].ravel(), whole[:6], atol=1e-5)


def test_the_best_boxes_of_detections_are_taken() -> None:
    shape = [1.5, 2.0, 4.0]
    rows = np.array([[5.0, 1.0, -1.0, *shape, 0.3], [9.0, 2.0, -1.0, *shape, -2.0], [0.0, 9.0, -1.0, *shape, 0.0]])
    found = Detections(torch.from_numpy(boxes_to_corners(rows)).float(), torch.tensor([0.9, 0.5, 0.2]))
    seen = SeenBoxes.of(found)
    np.testing.assert_allclose(seen.places, rows[:2, [0, 1, 6]], atol=1e-5)
    np.testing.assert_allclose(seen.scores, [0.9, 0.5], atol=1e-6)
