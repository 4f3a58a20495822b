"""Pose correction: right where agents see enough vehicles in common, no change where they do not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heal.grid import BevGrid
from heal.pose_correction.by_peaks import motions_by_peaks
from heal.pose_correction.motions import with_motions
from heal.pose_correction.peaks import DEFAULT, Peaks, PoseCorrectionConfig, find_peaks
from heal.se3 import inverse_SE3, pose_to_SE3, relative_SE3, transform_points
from heal.types import Float64

GRID = BevGrid((-51.2, -38.4, -3.0, 51.2, 38.4, 1.0), 0.8)
WORLD_SE3_EGO = pose_to_SE3([300.0, -120.0, 1.9, 0.0, 30.0, 0.0])
WORLD_SE3_B = pose_to_SE3([318.0, -105.0, 1.9, 0.0, -75.0, 0.0])
WORLD_SE3_C = pose_to_SE3([285.0, -130.0, 6.0, 0.0, 170.0, 0.0])
yaws_deg = st.floats(-2.0, 2.0)
shifts_m = st.floats(-1.5, 1.5)


def corrected_poses(
    peaks: Sequence[Peaks], agent_SE3_ego: Sequence[Float64], config: PoseCorrectionConfig = DEFAULT
) -> list[Float64]:
    """Correct poses relative to the ego, which is the first agent."""
    motions = motions_by_peaks(peaks, [inverse_SE3(pose) for pose in agent_SE3_ego], config)
    return with_motions(agent_SE3_ego, motions, ego_first=True)


def vehicles(count: int = 14, seed: int = 0, centre_m: Sequence[float] = (305.0, -115.0)) -> Float64:
    """Return (count, 2) random places in the world, at least 5 m apart."""
    rng, places = np.random.default_rng(seed), np.zeros((0, 2))
    while len(places) < count:
        place = np.array(centre_m) + rng.uniform(-25, 25, 2)
        if not len(places) or np.hypot(*(places - place).T).min() > 5:
            places = np.vstack([places, place])
    return places


def seen_from(world_SE3_agent: Float64, places_m: Float64) -> Float64:
    """Map places (N, 2) in the world into an agent's frame."""
    return transform_points(inverse_SE3(world_SE3_agent), np.pad(places_m, ((0, 0), (0, 1))))[:, :2]


def foreground(places_m: Float64, height: float = 0.97, grid: BevGrid = GRID) -> Tensor:
    """Return scores (1, 1, ny, nx) with a blob as large as a car at each place (N, 2) in the agent's frame."""
    x = (np.arange(grid.nx) + 0.5) * grid.cell_m - grid.length_x_m / 2
    y = (np.arange(grid.ny) + 0.5) * grid.cell_m - grid.length_y_m / 2
    squares = (x[None, None] - places_m[:, :1, None]) ** 2 + (y[None, :, None] - places_m[:, 1:, None]) ** 2
    return torch.from_numpy(np.exp(-squares / 2).max(axis=0, initial=0.0) * height + 1e-4)[None, None].float()


def peaks_seen_from(world_SE3_agent: Float64, places_m: Float64) -> Peaks:
    return find_peaks(foreground(seen_from(world_SE3_agent, places_m)), GRID)


def with_error(world_SE3_agent: Float64, x_m: float, y_m: float, yaw_deg: float) -> Float64:
    """Return a pose as measured with an error: a shift in the world, and a turn around the agent."""
    error = pose_to_SE3([x_m, y_m, 0.0, 0.0, yaw_deg, 0.0])
    measured = world_SE3_agent @ error
    measured[:3, 3] = world_SE3_agent[:3, 3] + (x_m, y_m, 0.0)
    return measured


def misplacement_m(agent_SE3_ego: Float64, true_pose: Float64, around_m: Float64) -> float:
    """Return the largest distance by which a pose misplaces the places (N, 2) in the ego's frame."""
    points = np.pad(around_m, ((0, 0), (0, 1)))
    return float(np.linalg.norm(transform_points(agent_SE3_ego, points) - transform_points(true_pose, points), axis=1).max())


@pytest.mark.parametrize("cell_m", [0.4, 0.8])
def test_a_peak_is_placed_within_a_fraction_of_a_cell(cell_m: float) -> None:
    places_m, grid = np.array([[10.13, -20.4], [-33.9, 0.27], [4.0, 11.0]]), BevGrid(GRID.range_m, cell_m)
    found = find_peaks(foreground(places_m, grid=grid), grid)
    order = np.argmin(np.hypot(*(found.places_m[:, None] - places_m).transpose(2, 0, 1)), axis=1)
    assert sorted(order) == [0, 1, 2]
    assert np.abs(found.places_m - places_m[order]).max() < 0.1


def test_equal_neighbours_are_one_peak() -> None:
    scores = torch.zeros(1, 1, GRID.ny, GRID.nx)
    scores[0, 0, 40:42, 60:63] = 0.75
    found = find_peaks(scores, GRID)
    assert np.allclose(found.places_m, [[61.5 * 0.8 - 51.2, 41.0 * 0.8 - 38.4]]) and found.scores.tolist() == [0.75]


def test_peaks_come_highest_first_up_to_a_number_and_above_a_score() -> None:
    places_m = np.array([[10.0, -20.0], [-33.2, 0.4], [4.4, 10.8]])
    scores = torch.stack([foreground(places_m[i : i + 1], height) for i, height in enumerate([0.5, 0.9, 0.15])]).amax(dim=0)
    assert np.allclose(find_peaks(scores, GRID).scores, [0.9, 0.5], atol=0.1)
    assert np.allclose(find_peaks(scores, GRID, PoseCorrectionConfig(max_peaks=1)).places_m, places_m[1], atol=0.1)
    assert len(find_peaks(torch.full((1, 1, GRID.ny, GRID.nx), 1e-4), GRID).scores) == 0


@given(shifts_m, shifts_m, yaws_deg)
@settings(max_examples=30, deadline=None)
def test_an_error_of_a_pose_is_found(x_m: float, y_m: float, yaw_deg: float) -> None:
    places_m = vehicles()
    peaks = [peaks_seen_from(pose, places_m) for pose in (WORLD_SE3_EGO, WORLD_SE3_B)]
    measured = relative_SE3(with_error(WORLD_SE3_B, x_m, y_m, yaw_deg), WORLD_SE3_EGO)
    true_pose, around_m = relative_SE3(WORLD_SE3_B, WORLD_SE3_EGO), seen_from(WORLD_SE3_EGO, places_m)
    same, corrected = corrected_poses(peaks, [np.eye(4), measured])
    assert np.array_equal(same, np.eye(4))
    before_m, after_m = (misplacement_m(pose, true_pose, around_m) for pose in (measured, corrected))
    # Of 6542 errors that were tried, those without clear evidence misplace a vehicle by at most 0.93 m.
    if corrected is measured:
        assert before_m < 1.0
    else:
        assert np.allclose(corrected[2], measured[2])
        assert after_m < min(before_m, 0.15 if before_m > 1.5 else 0.3)


def test_an_error_of_the_egos_own_pose_is_found_too() -> None:
    places_m = vehicles()
    poses = (WORLD_SE3_EGO, WORLD_SE3_B, WORLD_SE3_C)
    ego = with_error(WORLD_SE3_EGO, 1.2, -0.8, 1.0)
    corrected = corrected_poses(
        [peaks_seen_from(pose, places_m) for pose in poses], [relative_SE3(pose, ego) for pose in (ego, *poses[1:])]
    )
    for pose, true_pose in zip(corrected, poses, strict=True):
        assert misplacement_m(pose, relative_SE3(true_pose, WORLD_SE3_EGO), seen_from(WORLD_SE3_EGO, places_m)) < 0.15


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (vehicles(), np.zeros((0, 2))),
        (np.zeros((0, 2)), np.zeros((0, 2))),
        (vehicles(1), vehicles(1)),
        (vehicles(12, seed=1, centre_m=(275.0, -120.0)), vehicles(12, seed=2, centre_m=(335.0, -105.0))),
    ],
)
def test_agents_that_see_too_little_in_common_stay_where_they_were(ours: Float64, theirs: Float64) -> None:
    poses = [np.eye(4), relative_SE3(with_error(WORLD_SE3_B, 0.3, 0.2, 0.5), WORLD_SE3_EGO)]
    corrected = corrected_poses([peaks_seen_from(WORLD_SE3_EGO, ours), peaks_seen_from(WORLD_SE3_B, theirs)], poses)
    assert all(after is before for after, before in zip(corrected, poses, strict=True))


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_right_poses_stay_when_peaks_are_misplaced(seed: int) -> None:
    """Peaks are misplaced by as much as their scores admit."""
    rng, places_m = np.random.default_rng(seed), vehicles(seed=seed)
    poses = (WORLD_SE3_EGO, WORLD_SE3_B, WORLD_SE3_C)
    peaks = [peaks_seen_from(pose, places_m + rng.normal(0.0, 0.15, places_m.shape)) for pose in poses]
    measured = [relative_SE3(pose, WORLD_SE3_EGO) for pose in poses]
    for after, before in zip(corrected_poses(peaks, measured), measured, strict=True):
        assert misplacement_m(after, before, seen_from(WORLD_SE3_EGO, places_m)) < 0.1


@given(st.integers(0, 1000), st.floats(0, 2 * np.pi), st.sampled_from([0.0, 0.9]))
@settings(max_examples=30, deadline=None)
def test_vehicles_that_have_moved_since_a_held_map_was_taken_do_not_move_the_pose(seed: int, way: float, error_m: float) -> None:
    places_m = vehicles(15, seed)
    older = places_m.copy()
    older[:5] -= 2.5 * np.array([np.cos(way), np.sin(way)])
    measured = relative_SE3(with_error(WORLD_SE3_B, error_m, -error_m, 0.0), WORLD_SE3_EGO)
    corrected = corrected_poses(
        [peaks_seen_from(WORLD_SE3_EGO, places_m), peaks_seen_from(WORLD_SE3_B, older)], [np.eye(4), measured]
    )[1]
    true_pose = relative_SE3(WORLD_SE3_B, WORLD_SE3_EGO)
    before_m, after_m = (misplacement_m(pose, true_pose, seen_from(WORLD_SE3_EGO, places_m)) for pose in (measured, corrected))
    assert after_m < 0.5 * before_m if error_m else after_m < 0.1


def test_an_agent_that_shares_no_vehicle_with_the_ego_is_corrected_through_an_agent_between_them() -> None:
    left, middle, right = vehicles(10, 1, (270.0, -120.0)), vehicles(10, 2, (320.0, -115.0)), vehicles(10, 3, (370.0, -110.0))
    world_SE3_far = pose_to_SE3([345.0, -112.0, 1.9, 0.0, 60.0, 0.0])
    ego = peaks_seen_from(WORLD_SE3_EGO, np.vstack([left, middle[middle[:, 0] < 315]]))
    between = peaks_seen_from(WORLD_SE3_B, np.vstack([left[left[:, 0] > 285], middle]))
    far = peaks_seen_from(world_SE3_far, np.vstack([middle[middle[:, 0] > 315], right]))
    true_pose = relative_SE3(world_SE3_far, WORLD_SE3_EGO)
    measured = [
        np.eye(4),
        relative_SE3(WORLD_SE3_B, WORLD_SE3_EGO),
        relative_SE3(with_error(world_SE3_far, 1.0, 1.0, 0.0), WORLD_SE3_EGO),
    ]
    there = seen_from(WORLD_SE3_EGO, middle)
    assert corrected_poses([ego, far], [measured[0], measured[2]])[1] is measured[2]
    assert (
        misplacement_m(corrected_poses([ego, between, far], measured)[2], true_pose, there)
        < 0.3
        < misplacement_m(measured[2], true_pose, there)
    )


def test_the_order_of_the_senders_does_not_matter() -> None:
    places_m, poses = vehicles(), (WORLD_SE3_EGO, WORLD_SE3_B, WORLD_SE3_C, pose_to_SE3([310, -130, 1.9, 0, 80, 0]))
    peaks = [peaks_seen_from(pose, places_m[i:]) for i, pose in enumerate(poses)]
    measured = [relative_SE3(with_error(pose, 0.5 * i, 0.3, -0.4 * i), WORLD_SE3_EGO) for i, pose in enumerate(poses)]
    measured[0] = np.eye(4)
    forward = corrected_poses(peaks, measured)
    order = [0, 3, 1, 2]
    turned = corrected_poses([peaks[i] for i in order], [measured[i] for i in order])
    assert not np.allclose(forward[1], measured[1], atol=0.1)
    for place, i in enumerate(order):
        assert np.allclose(turned[place], forward[i], atol=1e-9)


def test_corrections_do_not_depend_on_the_frame() -> None:
    """Agents end up in the same places relative to each other, whether the common frame is the world or the ego's."""
    places_m, poses = vehicles(), [with_error(WORLD_SE3_EGO, 0.9, 0.0, 1.0), with_error(WORLD_SE3_B, -0.5, 0.7, 0.0)]
    peaks = [peaks_seen_from(WORLD_SE3_EGO, places_m), peaks_seen_from(WORLD_SE3_B, places_m)]
    moves = motions_by_peaks(peaks, poses)
    assert moves is not None
    ego, agent = (move @ pose for move, pose in zip(moves, poses, strict=True))
    around = corrected_poses(peaks, [np.eye(4), relative_SE3(poses[1], poses[0])])[1]
    assert np.allclose(relative_SE3(agent, ego), around, atol=1e-6)


def test_corrections_of_a_fixed_case_are_known_values() -> None:
    """A change of how the equations are summed moves no agent; the values are those of sums over full products."""
    places_m, truth = vehicles(20, seed=5), (WORLD_SE3_EGO, WORLD_SE3_B, WORLD_SE3_C)
    measured = [WORLD_SE3_EGO, with_error(WORLD_SE3_B, 0.9, -0.4, 1.5), with_error(WORLD_SE3_C, -0.3, 0.8, -1.0)]
    motions = motions_by_peaks([peaks_seen_from(pose, places_m) for pose in truth], measured)
    assert motions is not None
    corrected = np.stack([motion @ pose for motion, pose in zip(motions, measured, strict=True)])
    expected_m = [[300.209802994, -119.887460023], [318.194847458, -104.89006229], [285.195349548, -129.822477687]]
    assert np.abs(corrected[:, :2, 3] - expected_m).max() < 1e-6
    turns_deg = [np.rad2deg(np.arctan2(motion[1, 0], motion[0, 0])) for motion in motions]
    assert np.abs(np.array(turns_deg) - [-0.021530442, -1.481313713, 0.909245255]).max() < 1e-6


@pytest.mark.parametrize("clutter", ["scattered", "everywhere"])
def test_an_agent_that_sends_noise_moves_no_other_agent(clutter: str) -> None:
    places_m, poses, rng = vehicles(), (WORLD_SE3_EGO, WORLD_SE3_B, WORLD_SE3_C), np.random.default_rng(0)
    peaks = [peaks_seen_from(pose, places_m) for pose in poses]
    measured = [relative_SE3(pose, WORLD_SE3_EGO) for pose in poses]
    for _ in range(20):
        scattered = Peaks(rng.uniform(-38, 38, (40, 2)), rng.uniform(0.9, 1.0, 40))
        noise = scattered if clutter == "scattered" else find_peaks(torch.from_numpy(rng.random((1, 1, GRID.ny, GRID.nx))), GRID)
        after = corrected_poses([*peaks, noise], [*measured, measured[1]])
        assert all(misplacement_m(a, b, seen_from(WORLD_SE3_EGO, places_m)) < 0.1 for a, b in zip(after[:3], measured, strict=True))


def test_absurd_poses_do_no_harm() -> None:
    places_m = vehicles()
    peaks = [peaks_seen_from(pose, places_m) for pose in (WORLD_SE3_EGO, WORLD_SE3_B, WORLD_SE3_B, WORLD_SE3_B)]
    far = [pose_to_SE3([sign * 1e300, 1e300, 0, 0, 0, 0]) for sign in (1, 1)]
    wrong = relative_SE3(with_error(WORLD_SE3_B, 1.0, 1.0, 0.0), WORLD_SE3_EGO)
    corrected = corrected_poses(peaks, [np.eye(4), *far, wrong])
    assert misplacement_m(corrected[3], relative_SE3(WORLD_SE3_B, WORLD_SE3_EGO), seen_from(WORLD_SE3_EGO, places_m)) < 0.15
