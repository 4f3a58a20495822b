"""The benches of the stages time the real work, and their plain forms give the same results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from heal.base_model import BaseConfig, BaseModel
from heal.detection.anchors import make_anchors
from heal.layers.inference import for_inference
from heal.pose_correction.by_peaks import motions_by_peaks
from heal.tools.bench import bench
from heal.tools.benches.frame import Perceiver, plain_boxes, plain_head
from heal.tools.benches.measure import BenchRow, Timing, timed
from heal.tools.benches.poses import bench_poses, crowded_ground
from heal.tools.benches.post import BOXES, bench_post, head_with_candidates, random_frames
from heal.tools.benches.setup import CPU, WIDE, BenchSetup, PaperScene, poses_of
from tests.heal.networks import small_model, small_scene


def small_paper_scene() -> PaperScene:
    """Make a scene with two agents, small networks and visible cars."""
    torch.manual_seed(5)
    model, frames = small_model().eval().requires_grad_(False), small_scene(seed=4).ego_first
    torch.nn.init.constant_(model.base.cls_head.bias, 1.0)  # type: ignore[arg-type]
    return PaperScene(("m1", "m1"), frames, poses_of(frames), model.base, {"m1": model.agent("m1")})


def test_a_frame_gives_the_head_of_its_plain_form() -> None:
    scene = small_paper_scene()
    ours = Perceiver.of(scene, CPU)
    with torch.no_grad():
        head, plain = ours.head(ours.prepare(scene.frames), scene.agent_SE3_ego), plain_head(scene, scene.frames)
        assert len(ours.boxes(scene.frames)) and len(plain_boxes(scene, scene.frames))
    torch.testing.assert_close(head.classification, plain.classification, atol=1e-5, rtol=0)
    torch.testing.assert_close(head.regression, plain.regression, atol=1e-5, rtol=0)


def test_the_boxes_of_the_ego_alone_are_those_of_a_scene_without_others() -> None:
    scene = small_paper_scene()
    ours, single = (Perceiver.of(replace(scene, types=types), CPU) for types in (("m1", "m1"), ("m1",)))
    with torch.no_grad():
        alone = ours.alone(ours.levels("m1", ours.prepare(scene.frames)[0]))
        expected, together = single.boxes(scene.frames[:1]), ours.boxes(scene.frames)
    assert len(alone) and alone.scores.equal(expected.scores) and alone.corners.equal(expected.corners)
    assert not alone.scores.equal(together.scores)


@pytest.mark.parametrize("count", [64, 992])
def test_a_made_head_has_the_given_number_of_candidates(count: int) -> None:
    base = BaseModel(BaseConfig(grid=WIDE))
    settings, head = base.config.decode, head_with_candidates(make_anchors(WIDE, base.config.anchors), count)
    assert int((head.classification.sigmoid() > settings.score_threshold).sum()) == count
    found = base.detection.decode(head, WIDE.range_m)
    assert count / 64 < len(found) < count / 2


def test_objects_of_random_frames_are_found_but_not_exactly() -> None:
    from heal.detection.metrics import match_frame

    [frame] = random_frames(1)
    shares = match_frame(*frame, (0.3, 0.8)).found.mean(axis=1)
    assert len(frame[0]) == len(frame[1]) == BOXES and shares[0] > 0.8 and shares[1] < 0.8


def test_the_timed_networks_are_optimised_for_inference() -> None:
    scene = small_paper_scene()
    ours = Perceiver.of(scene, CPU)
    assert ours.base is not scene.base and type(ours.base) is type(for_inference(scene.base))
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in scene.base.modules())


def test_calls_are_timed_in_turn() -> None:
    order: list[str] = []
    first, second = timed(lambda: order.append("a"), lambda: order.append("b"), repeats=3, warm_up=1)
    assert order == ["a", "b"] * 4 and min(first.seconds, second.seconds) >= 0
    assert Timing.of([1.0, 2.0, 3.0]).seconds == 2.0


def test_a_row_holds_its_speedup_and_its_fraction_of_the_yardstick() -> None:
    row = BenchRow.of("made", Timing(2.0, 0.1), plain=Timing(5.0, 0.0)).of_flops(100.0, 200.0, "float32")
    assert (row.speedup_over_plain, row.yardstick_fraction, row.flops, row.spread) == (2.5, 0.25, 100.0, 0.1)


@pytest.mark.parametrize(
    ("plain", "device", "measured"),
    [(True, "cpu", True), (False, "cpu", False), (True, "cuda", False)],
    ids=["cpu", "no plain", "gpu"],
)
def test_plain_forms_are_measured_if_requested_and_on_the_cpu(plain: bool, device: str, measured: bool) -> None:
    assert BenchSetup(Path(), device=torch.device(device), plain=plain).measures_plain == measured


def test_without_the_plain_form_a_stage_has_no_speedup() -> None:
    rows = bench_post(BenchSetup(Path(), repeats=1, plain=False))
    assert len(rows) == 3 and all(row.seconds and row.speedup_over_plain is None for row in rows)


def test_the_command_writes_rows_as_json_and_a_trace(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(bench)
    out, trace = tmp_path / "rows.json", tmp_path / "trace.json"
    words = ["voxelize", "--repeats", "1", "--threads", "1", "--json", str(out), "--profile", str(trace)]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    rows = {row["name"]: row for row in json.loads(out.read_text())}
    assert {"machine/conv", "machine/memory", "voxelize/m1", "voxelize/m3"} <= set(rows)
    wanted = {"name", "seconds", "flops", "yardstick_fraction", "speedup_over_plain", "threads", "dtype"}
    assert all(wanted <= set(row) for row in rows.values())
    assert rows["voxelize/m1"]["speedup_over_plain"] > 1 and rows["voxelize/m1"]["threads"] == 1
    assert trace.stat().st_size > 0


def test_the_poses_of_a_crowd_can_be_corrected() -> None:
    [row] = bench_poses(BenchSetup(Path(), repeats=1), crowds=(8,))
    assert row.name == "fuse/poses8" and row.seconds and row.seconds > 0
    peaks, measured = crowded_ground(8)
    assert motions_by_peaks(peaks, measured) is not None and min(len(part.scores) for part in peaks) > 10
