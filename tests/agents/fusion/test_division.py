"""Division of fusion among regions: the regions in use, the messages each reads, and a joined result without duplicate boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heal.agents.deployment import Deployment, PlannedFault
from heal.agents.fusion.division import FusionTask, Regions, node_of
from heal.agents.fusion.tick_fusion import BORDER_M
from heal.agents.message_records import AgentLatency, MessageRecord
from heal.agents.options import RunOptions
from heal.agents.records import NODE_AWAY, OUT_OF_RANGE, AgentReport, FusionOutcome, FusionRequest, HeldMap, NodeLatency, Rejection
from heal.agents.region import Region, region_frame, regions_in_reach
from heal.detection.boxes import bottom_rectangles, boxes_to_corners, transform_corners
from heal.detection.decode import DecodeConfig
from heal.detection.detections import Detections
from heal.detection.rotated_iou import rotated_iou
from heal.grid import BevGrid
from heal.se3 import inverse_SE3, pose_to_SE3
from heal.types import Float64, ObjectLabels
from tests.agents.tiny_run import GRID, TICK_NS

DECODE = DecodeConfig()


def report(agent_id: str, x_m: float, y_m: float = 4.0) -> AgentReport:
    return report_at(agent_id, pose_to_SE3([x_m, y_m, 1.5, 0, 0, 0]))


def report_at(agent_id: str, measured: Float64, true: Float64 | None = None) -> AgentReport:
    """Make the report of an agent that measures a pose; its true pose is the same unless it is given."""
    pose = measured if true is None else true
    return AgentReport(agent_id, "m1", 1, pose, measured, ObjectLabels.empty(), AgentLatency(0, 0, 0))


def whole(tick: int = 0, sequence: str = "drive", world_SE3_ego: Float64 | None = None) -> FusionRequest:
    return FusionRequest(tick, tick * TICK_NS, sequence, "ego", np.eye(4) if world_SE3_ego is None else world_SE3_ego)


def regions_of(edge_m: float = 8.0, grid: BevGrid = GRID, **options: Any) -> Regions:
    return Regions(edge_m, RunOptions(region_m=edge_m, **options), grid, DECODE)


def sent(agent_id: str, tick: int = 0) -> tuple[MessageRecord, str]:
    return MessageRecord(tick, agent_id, "m1", False, 1, tick * TICK_NS, tick * TICK_NS, "used"), f"{agent_id} {tick}"


def outcome(detections: Detections | None = None, **more: Any) -> FusionOutcome:
    fields: dict[str, Any] = {"used": (), "held": (), "rejected": (), "latency": NodeLatency(0, 0, 0), **more}
    return FusionOutcome(0, detections or Detections.empty(), **fields)


def tasks_for(*senders: tuple[str, ...]) -> list[FusionTask[str]]:
    """Make tasks of regions in a row, one region for each tuple of senders."""
    requests = [FusionRequest(0, 0, "drive", "", np.eye(4), Region(i, 0, 8.0)) for i in range(len(senders))]
    return [FusionTask(request, tuple(map(sent, own))) for request, own in zip(requests, senders, strict=True)]


def test_a_place_on_a_border_belongs_to_the_region_beyond_it() -> None:
    places = {(-0.1, 0): (-1, 0), (0, 0): (0, 0), (7.999, 7.999): (0, 0), (8, -8): (1, -1), (-8, -8.001): (-1, -2)}
    for (x, y), (column, row) in places.items():
        assert Region.at(pose_to_SE3([x, y, 0, 0, 0, 0]), 8.0) == Region(column, row, 8.0)


def test_distance_is_to_the_nearest_point() -> None:
    for (x, y), distance_m in {(1, 7): 0, (-3, 4): 3, (4, 10): 2, (11, 12): 5, (-3, -4): 5}.items():
        assert Region(0, 0, 8.0).distance_m(pose_to_SE3([x, y, 50, 0, 0, 0])) == pytest.approx(distance_m)


@given(st.floats(-30, 30), st.floats(-30, 30), st.floats(-180, 180), st.floats(6, 30))
@settings(max_examples=50, deadline=None)
def test_a_map_reaches_into_the_regions_that_it_overlaps(x: float, y: float, yaw_deg: float, edge_m: float) -> None:
    grid, pose = BevGrid((-20.0, -10.0, -3.0, 20.0, 10.0, 1.0), 1.0), pose_to_SE3([x, y, 0, 0, yaw_deg, 0])
    touched = set(regions_in_reach(pose, grid, edge_m))
    # A region that the map touches with a corner or a side alone may count or not.
    assert overlapped(pose, (39.999, 19.999), edge_m) <= touched <= overlapped(pose, (40.001, 20.001), edge_m)


def overlapped(pose: Float64, size_m: tuple[float, float], edge_m: float) -> set[Region]:
    unit = np.array([[1, -1], [1, 1], [-1, 1], [-1, -1]]) / 2
    footprint = torch.from_numpy((unit * size_m) @ pose[:2, :2].T + pose[:2, 3])[None]
    around = [Region(i, j, edge_m) for i in range(-10, 10) for j in range(-10, 10)]
    squares = torch.from_numpy(np.array([region.centre_m + edge_m * unit for region in around]))
    return {region for region, iou in zip(around, rotated_iou(footprint, squares)[0].tolist(), strict=True) if iou > 0}


def test_a_regions_frame_follows_the_roads_around() -> None:
    # One agent along the road, one across the road, one the other way; none of them exactly.
    poses = [pose_to_SE3([0, 0, z, 1, yaw, 1]) for z, yaw in ((1.0, 12), (2.0, 102 - 4), (6.0, 12 - 180 + 4))]
    assert np.allclose(region_frame(Region(1, -1, 8.0), poses), pose_to_SE3([12, -4, 3, 0, 12, 0]))


def test_regions_beside_each_other_are_on_different_actors() -> None:
    for nodes in (2, 3, 4):
        for region in (Region(i, j, 8.0) for i in range(-3, 3) for j in range(-3, 3)):
            beside = [Region(region.column + 1, region.row, 8.0), Region(region.column, region.row + 1, 8.0)]
            assert 0 <= node_of(region, nodes) < nodes and node_of(region, nodes) not in [node_of(other, nodes) for other in beside]
    assert node_of(None, 5) == 0 == node_of(Region(3, 4, 8.0), 1)


def test_a_message_goes_to_all_regions_in_range_that_its_senders_map_reaches() -> None:
    regions = regions_of(comm_range_m=5.0)
    regions.locate(whole(), [report("a", 1), report("b", 100)])
    tasks = regions.share_out(whole(), [sent("a"), sent("b")])
    heard = {
        name: {
            (task.request.region.column, task.request.region.row)
            for task in tasks
            if task.request.region and sent(name) in task.arrived
        }
        for name in ("a", "b")
    }
    # Maps reach 12.8 m. To a, at (1, 4), the corners on its left are within 5 m too; b is in the middle of its region.
    assert heard["a"] == {(0, 0), (-1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1)}
    assert heard["b"] == {(12, 0), (11, 0), (13, 0), (12, -1), (12, 1)}
    assert all(task.request.ego_id == "" for task in tasks) and len(tasks) == 11


def test_regions_read_the_messages_of_agents_that_left_until_their_maps_are_too_old() -> None:
    regions = regions_of(max_age_ms=300)
    for tick in range(100):
        regions.locate(whole(tick), [report("a", 2.0 * tick)])
        tasks = regions.share_out(whole(tick), [sent("a", tick)])
        assert all(task.arrived for task in tasks) and len(tasks) <= 5 * 5
        # The rear end of the map 0.3 s ago is within 4 m of the centre of the first region.
        rear_m = max(2.0 * tick - 6, 0) - 12.8
        assert abs(min(task.request.region.centre_m[0] for task in tasks if task.request.region) - rear_m) <= 4
    assert regions.share_out(whole(100, "elsewhere"), []) == ()


def test_a_hand_over_is_reported_once_and_a_late_report_changes_nothing() -> None:
    regions = regions_of(max_age_ms=300)
    assert regions.locate(whole(0), [report("a", 4), report("b", 4)]) == ()
    assert regions.locate(whole(1), [report("b", 5)]) == ()
    assert regions.locate(whole(2), [report("a", 12), report("b", 7.9)]) == ("a",)
    regions.locate(whole(1), [report("a", 7)])
    assert regions.locate(whole(3), [report("a", 13), report("b", 8)]) == ("b",)
    assert regions.locate(whole(4, "elsewhere"), [report("a", 40)]) == ()


@pytest.mark.parametrize("region_m", [3.1, 18.2, 25.6, 1000.0])
def test_regions_that_fit_no_map_are_refused(region_m: float) -> None:
    with pytest.raises(ValueError, match=r"region_m: expected 3\.2 to 18\.1 m with this alliance's grid of 25\.6 x 25\.6 m"):
        regions_of(region_m)


def test_numbers_out_of_range_are_refused() -> None:
    for region_m in (0.0, -8.0, float("nan")):
        with pytest.raises(ValueError, match="region_m: expected more than 0"):
            RunOptions(region_m=region_m)
    with pytest.raises(ValueError, match="at least 1 fusion node"):
        Deployment(fusion_nodes=0)
    with pytest.raises(ValueError, match="planned faults of existing fusion nodes alone"):
        Deployment(fusion_nodes=2, faults=PlannedFault.parse("crash:node:2@1"))
    assert [fault.node for fault in PlannedFault.parse("crash:node@1,hang:node:1@2,crash:nodes@3")] == [0, 1, None]


def test_a_message_is_rejected_only_if_no_region_used_it() -> None:
    tasks = tasks_for(("a", "b", "c", "d", "e"), ("a", "b", "c", "d", "e"), ("f",))
    stale, far = (lambda name: Rejection(name, 0, "stale", "by an hour")), (lambda name: Rejection(name, 0, OUT_OF_RANGE, "80 m"))
    outcomes = [
        # The second copy of a message that was used is rejected, and the message is not.
        outcome(used=("a",), rejected=(Rejection("a", 0, "duplicate", ""), stale("b"), far("c"), far("d"), stale("e"))),
        outcome(used=("b",), rejected=(stale("a"), stale("c"), far("d"), stale("e"))),
        None,
    ]
    joined = regions_of().join(whole(), tasks, outcomes, [(name, 0) for name in "abcdefg"])
    assert joined is not None and joined.used == ("a", "b")
    assert [(one.agent_id, one.reason) for one in joined.rejected] == [
        ("c", "stale"),
        ("d", OUT_OF_RANGE),
        ("e", "stale"),
        ("f", NODE_AWAY),
        ("g", OUT_OF_RANGE),
    ]
    away = regions_of().join(whole(), tasks_for(("a",), ("a",)), [outcome(rejected=(stale("a"),)), None], [("a", 0)])
    assert away is not None and [one.reason for one in away.rejected] == [NODE_AWAY]


def test_held_maps_are_joined_once_and_each_stage_takes_its_longest_time() -> None:
    old, older = HeldMap("b", 100.0, 0.5), HeldMap("b", 200.0, 0.25)
    outcomes = [
        outcome(held=(older, HeldMap("a", 100.0, 0.5)), latency=NodeLatency(1, 5, 3)),
        outcome(held=(old,), used=("ego", "a"), latency=NodeLatency(2, 4, 6)),
    ]
    joined = regions_of().join(whole(), tasks_for((), ()), outcomes, [])
    assert joined is not None and joined.held == (old,) and joined.used == ("ego", "a")
    assert joined.latency == NodeLatency(2, 5, 6)


def test_no_answer_gives_no_outcome_and_no_agents_give_an_empty_one() -> None:
    assert regions_of().join(whole(), tasks_for((), ()), [None, None], []) is None
    nothing = regions_of().join(whole(), [], [], [])
    assert nothing is not None and len(nothing.detections) == 0


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_vehicles_on_borders_are_found_once(seed: int) -> None:
    """Each node places each vehicle a little differently, and returns the vehicles in its region or close to the border."""
    rng, grid = np.random.default_rng(seed), BevGrid((-51.2, -51.2, -3.0, 51.2, 51.2, 1.0), 0.8)
    world_SE3_ego = pose_to_SE3([*rng.uniform(-5, 5, 2), 1.9, 0, rng.uniform(-180, 180), 0])
    request = whole(world_SE3_ego=world_SE3_ego)
    regions = regions_of(float(rng.uniform(20, 60)), grid)
    regions.locate(request, [report("b", 30, -40), report_at("ego", world_SE3_ego)])
    tasks, vehicles = regions.share_out(request, []), street(rng)
    joined = regions.join(request, tasks, [found_by(task, vehicles, rng) for task in tasks], [])
    assert joined is not None
    footprints = bottom_rectangles(joined.detections.corners)
    assert float(rotated_iou(footprints, footprints).fill_diagonal_(0).max()) <= DECODE.nms_iou
    centres = transform_corners(torch.from_numpy(inverse_SE3(world_SE3_ego)), vehicles[:, :3])[:, :2]
    inside = centres[centres.abs().amax(dim=1) < 51.2 - 4]
    near = torch.cdist(inside, joined.detections.boxes[:, :2].double()) < 2
    assert len(inside) > 20 and near.sum(dim=1).tolist() == [1] * len(inside)


def street(rng: np.random.Generator) -> torch.Tensor:
    """Draw (N, 7) boxes in the world, at least 8 m apart."""
    axis = np.arange(-72, 73, 12.0)
    places = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2) + rng.uniform(-2, 2, (len(axis) ** 2, 2))
    sizes = np.tile([1.0, 1.5, 1.8, 4.2], (len(places), 1))
    return torch.from_numpy(np.column_stack([places, sizes, rng.uniform(-3, 3, len(places))]))


def found_by(task: FusionTask[Any], vehicles: torch.Tensor, rng: np.random.Generator) -> FusionOutcome:
    """Make the outcome of a region's node, which places each vehicle up to 0.3 m beside its true position."""
    region, seen = task.request.region, vehicles.clone()
    assert region is not None
    seen[:, :2] += torch.from_numpy(rng.uniform(-0.3, 0.3, (len(vehicles), 2)))
    off_m = (seen[:, :2] - torch.tensor(region.centre_m)).abs().amax(dim=1)
    corners = boxes_to_corners(seen[off_m <= region.edge_m / 2 + BORDER_M])
    local = transform_corners(torch.from_numpy(inverse_SE3(task.request.world_SE3_frame)), corners)
    return outcome(Detections.sorted(local, torch.from_numpy(rng.uniform(0.3, 1, len(local)))))
