"""Late and early fusion as runs: boxes and points cross the links as bytes, and are fused as in one process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from heal.agents.fusion.host import NodeHost
from heal.agents.fusion.knowledge import NodeKnowledge
from heal.agents.local_runtime import LocalRuntime
from heal.agents.network.network import Network
from heal.agents.options import RunOptions
from heal.agents.records import Arrival, FusionOutcome, TickResult
from heal.collab_model import CollabModel
from heal.detection.detections import Detections
from heal.encoders.joint_cloud import join_clouds, points_to_share
from heal.errors import UserError
from heal.fusion.late import AgentBoxes, join_boxes
from heal.message.codec import Codec
from heal.message.message import Message
from heal.types import LidarScan, ObjectLabels, Scene, SensorChoice, Split
from tests.agents.fusion.tiny_node import message_of, request_at
from tests.agents.tiny_run import GRID, TinyAlliance, TinySource, Without, by_id

ALLIANCE, SOURCE = TinyAlliance(trust={"m2": 0.5}), TinySource()
TYPES = by_id({"ego": "m1", "b": "m2", "c": "m1", "d": "m1"})
BOXES, POINTS = RunOptions(split="boxes"), RunOptions(split="points")
BASE = ALLIANCE.base.config


def run(
    options: RunOptions, network: Network | None = None, ticks: range = range(2), source: TinySource = SOURCE
) -> list[TickResult]:
    with LocalRuntime(ALLIANCE, source, TYPES, network, options) as runtime:
        return list(runtime.run(ticks))


def same(one: Detections, other: Detections) -> bool:
    return torch.equal(one.corners, other.corners) and torch.equal(one.scores, other.scores)


def expected_late(tick: int, *agent_ids: str) -> Detections:
    """Return the boxes that the whole networks find for each agent alone, joined."""
    outline, parts = SOURCE.outline(tick), []
    for agent_id in agent_ids:
        frame, kind = SOURCE.agent_frame(tick, agent_id), TYPES(outline)[agent_id]
        model = CollabModel(ALLIANCE.base, {kind: ALLIANCE.agent(kind)})
        with torch.no_grad():
            head = model(model.prepare([Scene.of([frame], "scene")], [{agent_id: kind}])).head
        parts.append(AgentBoxes(*ALLIANCE.base.detection.candidates(head), frame.world_SE3_agent_measured))
    return join_boxes(parts, outline.world_SE3_ego, BASE.decode, GRID.range_m)


def expected_early(tick: int, *agent_ids: str, around: str = "ego") -> Detections:
    """Return the boxes that the whole networks of m1 find in the joint cloud of some agents, in the frame of one."""
    frames = [SOURCE.agent_frame(tick, agent_id) for agent_id in agent_ids]
    clouds = [(points, frame.world_SE3_agent) for frame in frames if (points := points_to_share(frame)) is not None]
    ego = SOURCE.agent_frame(tick, around)
    ego = replace(ego, lidar=LidarScan(join_clouds(clouds, ego.world_SE3_agent)))
    model = CollabModel(ALLIANCE.base, {"m1": ALLIANCE.agent("m1")})
    with torch.no_grad():
        head = model(model.prepare([Scene.of([ego], "scene")], [{ego.agent_id: "m1"}])).head
    return ALLIANCE.base.detection.decode(head, GRID.range_m)


def assert_about(found: Detections, wanted: Detections) -> None:
    torch.testing.assert_close(found.corners, wanted.corners, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.scores, wanted.scores, rtol=0, atol=1e-5)
    assert len(wanted) > 3


@pytest.mark.parametrize(("options", "expected"), [(BOXES, expected_late), (POINTS, expected_early)], ids=["boxes", "points"])
def test_a_run_finds_what_the_networks_find_in_one_process(options: RunOptions, expected: Callable[..., Detections]) -> None:
    with_ego = replace(options, include_ego=True)
    for tick, result in enumerate(run(with_ego)):
        assert_about(result.detections, expected(tick, "ego", "b", "c"))
        assert result.alone is not None
        assert_about(result.alone, expected(tick, "ego"))
        assert [record.status for record in result.messages] == ["used"] * 3
    blind = run(replace(with_ego, blind_ego=True))[0]
    if options is BOXES:
        assert_about(blind.detections, expected(0, "b", "c"))
    assert blind.messages[0].reason == "blind ego" and len(blind.detections)


def test_bytes_are_those_of_the_boxes_and_points_that_were_sent() -> None:
    points = run(POINTS)[0]
    frame = SOURCE.agent_frame(0, "b")
    shared = points_to_share(frame)
    assert shared is not None and len(shared) < 400
    assert points.messages[1].size_bytes == 384 + -(-16 * len(shared) // 64) * 64
    boxes, best = (run(replace(BOXES, codec=Codec.parse(codec)))[0] for codec in ("float32", "float32,score:0.6"))
    half = run(replace(BOXES, codec=Codec.parse("float16,zstd")))[0]
    sizes = [[record.size_bytes for record in one.messages] for one in (boxes, best, half)]
    assert sizes[0][0] == sizes[1][0], "the ego's own boxes cross no link"
    assert all(whole > few > 384 for whole, few in zip(sizes[0][1:], sizes[1][1:], strict=True))
    assert all(whole > 1.7 * short for whole, short in zip(sizes[0][1:], sizes[2][1:], strict=True))
    torch.testing.assert_close(half.detections.corners[:5], boxes.detections.corners[:5], rtol=0, atol=0.05)


@pytest.mark.parametrize("options", [BOXES, POINTS], ids=["boxes", "points"])
def test_what_is_lost_is_held(options: RunOptions) -> None:
    gone = Without(frozenset({(1, "b"), (1, "c")}))
    held, dropped, whole = (run(replace(options, late=late), gone) for late in ("hold", "drop", "weigh"))
    assert [one.agent_id for one in held[1].held] == ["b", "c"] and dropped[1].held == ()
    assert dropped[1].alone is not None and same(dropped[1].detections, dropped[1].alone)
    assert not same(held[1].detections, dropped[1].detections)
    weighted = same(held[1].detections, whole[1].detections)
    assert weighted == (options is POINTS), "old boxes have lower scores, points have no weight"


def test_the_guard_and_regions_work_on_boxes() -> None:
    guarded = run(replace(BOXES, guard="on"))[0]
    assert guarded.guard is not None and guarded.guard.confident > 0
    regions = run(replace(BOXES, region_m=16.0))[0]
    assert len(regions.detections) and regions.alone is None


def fuse(options: RunOptions, *messages: Message | tuple[str, bytes]) -> FusionOutcome:
    encoders = {name: ALLIANCE.agent(name) for name in ALLIANCE.agent_names}
    host = NodeHost(replace(NodeKnowledge.of(ALLIANCE, options), encoders=encoders))
    sent = [Arrival(m.agent_id, m.to_bytes(), 0) if isinstance(m, Message) else Arrival(m[0], m[1], 0) for m in messages]
    return host.step([(replace(request_at(0), ego_type="m1"), sent)])[0]


@pytest.mark.parametrize("split", ["boxes", "points"])
def test_no_message_stops_the_node(split: Split) -> None:
    options = RunOptions(split=split)
    ego, b = (message_of(agent_id, options=options) for agent_id in ("ego", "b"))
    alone, numbers = fuse(options, ego), b.maps[0]
    nan, far = numbers.copy(), numbers.copy()
    nan[0, 0, 0], far[0], far[-1] = np.nan, 9e3, 0.3  # of low scores: only the best candidates are suppressed by each other
    for wrong, reasons in ((nan, ["not finite"]), (far, [])):
        outcome = fuse(options, ego, replace(b, maps=(wrong,)))
        assert same(outcome.detections, alone.detections)
        assert [rejection.reason for rejection in outcome.rejected] == reasons
    for bad in (b.to_bytes()[:-1], b"", bytes(500)):
        assert fuse(options, ego, ("b", bad)).rejected[0].reason == "malformed"
    feature = message_of("b")
    assert fuse(options, ego, feature).rejected[0].reason == "other split"


@pytest.mark.parametrize("split", ["boxes", "points"])
def test_an_agent_that_has_found_nothing_changes_nothing(split: Split) -> None:
    options = RunOptions(split=split)
    ego, b = (message_of(agent_id, options=options) for agent_id in ("ego", "b"))
    none = replace(b, maps=(b.maps[0][:, :, :0],))
    outcome = fuse(options, ego, none)
    assert outcome.used == ("ego", "b") and same(outcome.detections, fuse(options, ego).detections)
    nothing = fuse(options, replace(ego, maps=none.maps))
    assert nothing.used == ("ego",) and (split == "points" or len(nothing.detections) == 0)


def test_more_boxes_than_agents_send_are_refused() -> None:
    ego, b = (message_of(agent_id, options=BOXES) for agent_id in ("ego", "b"))
    many = replace(b, maps=(np.tile(b.maps[0][:, :, :1], (1, 1, BASE.decode.max_candidates + 1)),))
    assert fuse(BOXES, ego, many).rejected[0].reason == "too many boxes"


class WithCameras(TinyAlliance):
    """The tiny alliance whose type m2 reads cameras; its network is never called."""

    def agent(self, name: str) -> object:  # type: ignore[override]
        return CameraType() if name == "m2" else super().agent(name)


class CameraType:
    """A network that reads cameras, of which a run of points only asks what it reads."""

    sensor, coverage = SensorChoice(lidar=False, cameras=True), None

    def to(self, device: torch.device) -> None:
        """Stay: there is nothing to move."""


class NoCloud(TinySource):
    """The tiny source whose agents have a cloud where one is read."""

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None):  # type: ignore[no-untyped-def]
        frame = super().agent_frame(index, agent_id, choice)
        assert choice is None or not choice.cameras, "nobody looks at images of which nothing is sent"
        return frame if choice is None or choice.lidar else replace(frame, lidar=None)


def test_camera_agents_have_no_points_to_send() -> None:
    options = replace(POINTS, keep_views=True, count_points=True, include_ego=True)
    with LocalRuntime(WithCameras(), NoCloud(), TYPES, options=options) as runtime:
        result = next(runtime.run([0]))
    b = result.messages[1]
    assert (b.agent_type, b.status, b.reason, b.size_bytes) == ("m2", "not sent", "no points to send", 0)
    assert [view.agent_id for view in result.views] == ["ego", "c"] and not result.views[0].heat.any()
    assert_about(result.detections, expected_early(0, "ego", "c"))
    labelled = set(result.ground_truth.ids.tolist())
    assert sum(b"b") in labelled, "what camera agents label is ground truth all the same"


def test_a_camera_ego_detects_in_the_points_of_others_with_the_network_of_a_type_that_reads_them() -> None:
    types = by_id({"ego": "m2", "b": "m1", "c": "m1"})
    with LocalRuntime(WithCameras(), NoCloud(), types, options=replace(POINTS, include_ego=True)) as runtime:
        result = next(runtime.run([0]))
    assert [(one.agent_id, one.status) for one in result.messages] == [("ego", "not sent"), ("b", "used"), ("c", "used")]
    assert_about(result.detections, expected_early(0, "b", "c"))


class OnlyCameras(WithCameras):
    """An alliance in which no type reads points."""

    agent_names = ("m2",)


def test_points_need_a_type_that_reads_them() -> None:
    with pytest.raises(UserError, match=r"split=points: expected an agent type that reads LiDAR alone.* the alliance has m2"):
        LocalRuntime(OnlyCameras(), NoCloud(), TYPES, options=POINTS)


@pytest.mark.parametrize(
    "changes",
    [
        {"split": "boxes", "adapt": True},
        {"split": "boxes", "codec": Codec("int8")},
        {"split": "boxes", "codec": Codec("float32", ae_ratio=4)},
        {"split": "points", "codec": Codec("int4", zstd=True)},
        {"split": "points", "codec": Codec("float32", budget_bytes=1000)},
        {"split": "points", "codec": Codec("float32", min_score=0.1)},
        {"split": "points", "region_m": 16.0},
    ],
)
def test_options_that_items_do_not_have_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"split={changes['split']}"):
        RunOptions(**changes)  # type: ignore[arg-type]


def test_points_of_the_own_vehicle_are_not_shared() -> None:
    frame = replace(SOURCE.agent_frame(0, "b"), objects=ObjectLabels.empty())
    assert frame.lidar is not None
    near = np.array([[1.0, 0.0, -1.0, 0.5], [20.0, 0.0, -1.0, 0.5]], np.float32)
    shared = points_to_share(replace(frame, lidar=LidarScan(near)))
    assert shared is not None and shared.tolist() == near[1:].tolist()
    assert points_to_share(replace(frame, lidar=None)) is None
