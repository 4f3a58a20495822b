"""Tests of pictures: hidden vehicles, the position and colour of points, the files that are written, the size of animations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from heal.agents.message_records import MessageRecord
from heal.agents.records import AgentView, NodeLatency, TickResult
from heal.detection.boxes import boxes_to_corners
from heal.detection.detections import Detections, GroundTruth
from heal.detection.metrics import ApAccumulator
from heal.detection.visibility import SceneVisibility
from heal.se3 import pose_to_SE3
from heal.tools.pictures.bev import render
from heal.tools.pictures.colors import AGENT_COLORS, FAINT_TEXT, HIDDEN, agent_color, palette
from heal.tools.pictures.draw import draw_comparison, draw_curves, draw_frame, draw_tick, save_animation
from heal.tools.pictures.marks import rasterize_clouds
from heal.tools.pictures.panel import PANEL_INCHES, draw_panel
from heal.tools.pictures.picture import BevPicture, least_drawn_score, picture_of
from heal.types import Float32, UInt8

RANGE_M = (-20.0, -20.0, -3.0, 20.0, 20.0, 1.0)
# Vehicles seen by both agents, by the other agent alone, by the other with too few points, by no agent; the ego's own vehicle.
PLACES = ((8.0, 5.0), (-8.0, 5.0), (8.0, -8.0), (-8.0, -8.0), (-1.0, 0.0))
WORLD_SE3_EGO = pose_to_SE3([100, 50, 2, 0, 30, 0])
EGO_SE3_OTHER = pose_to_SE3([0, 12, 0, 0, 180, 0])


def boxes_at(*places: tuple[float, float]) -> torch.Tensor:
    return boxes_to_corners(torch.tensor([[x, y, -1.0, 1.5, 1.8, 4.4, 0.3] for x, y in places]))


def points_on(*places: tuple[float, float], count: int = 30) -> Float32:
    rng = np.random.default_rng(0)
    rows = [(np.array([x, y, -1.0, 0.5]) + rng.uniform(-0.4, 0.4, 4)).tolist() for x, y in places for _ in range(count)]
    return np.array(rows, np.float32).reshape(-1, 4)


def make_result() -> TickResult:
    truth = GroundTruth(boxes_at(*PLACES), torch.arange(5))
    found = Detections(boxes_at(PLACES[1], (0.0, 15.0)), torch.tensor([0.9, 0.3]))
    seen_by_other = np.concatenate([points_on(*PLACES[:2], PLACES[4]), points_on(PLACES[2], count=20)])
    in_ego = np.concatenate([seen_by_other[:, :3], np.ones((len(seen_by_other), 1))], axis=1)
    seen_by_other[:, :3] = (in_ego @ np.linalg.inv(EGO_SE3_OTHER).T)[:, :3]
    heat = np.zeros((8, 8), np.float32)
    views = (
        AgentView("ego", WORLD_SE3_EGO, points_on(PLACES[0]), heat),
        AgentView("other", WORLD_SE3_EGO @ EGO_SE3_OTHER, seen_by_other, heat),
    )
    records = (
        MessageRecord(7, "ego", "m1", True, 1000, 0, 0, "used"),
        MessageRecord(7, "other", "m1", False, 2_500_000, 0, None, "lost", "on the link"),
    )
    visibility = SceneVisibility(np.array([0, 1, 2, 3]), np.array([30, 0, 0, 0]), np.array([30, 30, 20, 0]))
    return TickResult(
        7, "town/7", 0, "ego", WORLD_SE3_EGO, found, truth, records, NodeLatency(1, 2, 3), views=views, visibility=visibility
    )


def test_hidden_means_unseen_by_the_ego_and_well_seen_by_another() -> None:
    picture = picture_of(make_result(), RANGE_M)
    assert picture.hidden.tolist() == [False, True, False, False, False]
    assert not picture_of(replace(make_result(), visibility=None), RANGE_M).hidden.any()
    assert picture.found.tolist() == [False, True, False, False, False]


def test_points_have_their_agents_colour_at_their_position() -> None:
    image = rasterize_clouds([(AGENT_COLORS[0], np.array([[10.0, -5.0, 0.0]] * 90))], RANGE_M, 400).astype(float)
    row, column = np.unravel_index(np.abs(image - image[0, 0]).sum(axis=2).argmax(), (400, 400))
    assert abs(row - 150) <= 1 and abs(column - 300) <= 1  # the point lies on the edge of four pixels
    color = np.array([int(AGENT_COLORS[0][i : i + 2], 16) for i in (1, 3, 5)])
    assert np.abs(image[row, column] - color).max() < 60 and image[row, column].argmax() == color.argmax()


def has_color(image: UInt8, color: str) -> bool:
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return bool((np.abs(image.astype(int) - wanted).max(axis=2) < 30).sum() > 20)


def test_hidden_vehicles_are_ringed_and_others_are_not() -> None:
    picture = picture_of(make_result(), RANGE_M)
    scene = render([picture], 1000)[:, :600]
    none: BevPicture = replace(picture, hidden=np.zeros(5, np.bool_))
    assert has_color(scene, HIDDEN)
    assert not has_color(render([none], 1000)[:, :600], HIDDEN)


def test_boxes_of_further_classes_have_a_letter_and_every_class_a_row() -> None:
    result, names = make_result(), ("vehicle", "pedestrian", "cyclist")
    truth = replace(result.ground_truth, classes=torch.tensor([0, 1, 0, 2, 0]))
    alike = replace(result, ground_truth=truth, visibility=None, class_names=names)
    named = replace(alike, detections=replace(result.detections, classes=torch.tensor([1, 0])))
    assert picture_of(named, RANGE_M).found.tolist() == [False, True, False, False, False]
    assert not picture_of(alike, RANGE_M).found.any(), "a vehicle does not find a pedestrian"
    scenes = [render([picture_of(each, RANGE_M)], 1000) for each in (named, alike)]
    changed = (scenes[0] != scenes[1]).any(axis=2)
    rows, columns = changed[:, :600].nonzero()
    assert len(rows) > 10 and np.ptp(rows) < 40 and np.ptp(columns) < 40, "one letter at one box"
    assert changed[:, 600:].any(), "the numbers of found objects"


def test_what_cameras_see_stands_below_with_their_agents_colour() -> None:
    red = np.zeros((30, 40, 3), np.uint8)
    red[..., 0] = 255
    result = make_result()
    views = (result.views[0], replace(result.views[1], images=(red,) * 9))
    with_cameras, without = (render([picture_of(each, RANGE_M)], 1600) for each in (replace(result, views=views), result))
    height = without.shape[0]
    assert np.abs(with_cameras[:height].astype(int) - without.astype(int)).mean() < 3
    strip = with_cameras[height:]
    # Nine images of 4:3, eight in a row: two rows, of which the second has one image.
    assert strip.shape[0] == pytest.approx(2 * 1600 / 8 * 3 / 4, rel=0.1)
    is_red = (strip == (255, 0, 0)).all(axis=2)
    upper, lower = is_red[: strip.shape[0] // 2], is_red[strip.shape[0] // 2 :]
    assert upper.mean() > 0.8 and 0.08 < lower.mean() < 0.125
    assert has_color(strip, agent_color(1)) and not has_color(strip, agent_color(0))
    assert draw_frame(replace(result, views=views), RANGE_M).shape[0] * 2 == pytest.approx(height, abs=2)


def with_agents(picture: BevPicture, count: int) -> BevPicture:
    return replace(picture, agents=(picture.agents * count)[:count])


@pytest.mark.parametrize("agents", [1, 2, 5])
@pytest.mark.parametrize("half_width_m", [20.0, 40.0, 100.0])
def test_the_panel_shows_all_its_lines_apart_from_each_other(agents: int, half_width_m: float) -> None:
    picture = with_agents(picture_of(make_result(), (-half_width_m, -20.0, -3.0, half_width_m, 20.0, 1.0)), agents)
    image = render([picture], 1600)
    height = PANEL_INCHES * image.shape[0] / image.shape[1] * (1600 / panel_px(picture))
    figure = Figure(figsize=(PANEL_INCHES, height))
    axes = figure.add_axes((0, 0, 1, 1))
    draw_panel(axes, picture, height)
    lowest, _ = axes.get_ylim()
    lines = sorted({round(text.get_position()[1], 3) for text in axes.texts})
    assert len([text for text in axes.texts if text.get_text() == "decode"]) == 1
    inches = np.array(lines) * height / lowest
    assert inches[-1] < height - 0.15 and np.diff(inches).min() > 0.2


def panel_px(picture: BevPicture) -> float:
    """Return the width of the panel in a picture of 1600 pixels."""
    return 1600 * PANEL_INCHES / ((10.0 if picture.aspect > 0.75 else 14.0) + PANEL_INCHES)


def with_detections(result: TickResult, scores: Float32) -> TickResult:
    places = [(float(i % 15) * 2 - 15, float(i // 15) * 2 - 15) for i in range(len(scores))]
    return replace(result, detections=Detections(boxes_at(*places), torch.from_numpy(scores)))


def test_of_very_many_detections_those_with_low_scores_are_left_out_and_the_panel_says_so() -> None:
    scores = np.linspace(0.9, 0.2, 128).astype(np.float32)
    picture = picture_of(with_detections(make_result(), scores), RANGE_M)
    assert picture.drawn_from == 0.6  # 55 scores; from 0.55 on there are 64, which is more than 60
    assert picture.drawn.sum() == (scores >= 0.6).sum() == 55
    axes = Figure(figsize=(PANEL_INCHES, 10)).add_axes((0, 0, 1, 1))
    draw_panel(axes, replace(picture, drawn_from=0.65), 10.0)
    by_text = {text.get_text(): text.get_window_extent() for text in axes.texts}
    name, number = by_text["detections, score \u2265 0.65"], by_text["46 of 128"]
    assert name.y0 == pytest.approx(number.y0, abs=3) and name.x1 < number.x0 - 3
    few = picture_of(with_detections(make_result(), scores[:60]), RANGE_M)
    assert few.drawn_from == 0.0 and few.drawn.all()
    assert least_drawn_score(few.detections, 5) == 0.0
    many = with_detections(make_result(), scores).detections
    assert least_drawn_score(many, 64) == 0.0  # there are twice as many detections as vehicles, and not more
    assert not has_color(render([replace(picture, drawn_from=1.0)], 1000)[:, :600], "#ffd84d")


def test_files_are_written_without_any_point_or_box(tmp_path: Path) -> None:
    full = make_result()
    bare = replace(full, views=(), detections=Detections.empty(), ground_truth=GroundTruth.empty())
    draw_tick(full, RANGE_M, tmp_path / "sub" / "full.png", width_px=800)
    draw_tick(bare, RANGE_M, tmp_path / "bare.png", width_px=800)
    alone = replace(full, detections=Detections.empty(), views=full.views[:1])
    draw_comparison(alone, full, (-40.0, -20.0, -3.0, 40.0, 20.0, 1.0), tmp_path / "both.png", width_px=1200)
    with pytest.raises(ValueError, match="one tick"):
        draw_comparison(bare, full, RANGE_M, tmp_path / "both.png")
    assert Image.open(tmp_path / "sub" / "full.png").size[0] == 800
    assert Image.open(tmp_path / "both.png").size[0] == 1200
    scores = ApAccumulator()
    scores.add(full.detections, full.ground_truth)
    draw_curves(scores.results(), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_the_margin_stands_below_the_picture_and_changes_nothing_in_it() -> None:
    picture = picture_of(make_result(), RANGE_M)
    plain, noted = render([picture], 800), render([picture], 800, "heal demo --set $x=$\\frac\nheal 1.2.3")
    strip = noted[len(plain) + 1 :]
    assert noted.shape[1:] == plain.shape[1:] and 20 < len(strip) < 60 and has_color(strip, FAINT_TEXT)
    same = (np.abs(noted[: len(plain) - 2].astype(int) - plain[:-2]).max(axis=2) < 30).mean()
    assert same > 0.95


def test_curves_stay_above_their_margin(tmp_path: Path) -> None:
    scores = ApAccumulator()
    scores.add(make_result().detections, make_result().ground_truth)
    heights = {}
    for margin in ("", "a command\nits version"):
        draw_curves(scores.results(), tmp_path / "curves.png", margin)
        image = np.asarray(Image.open(tmp_path / "curves.png").convert("L"))
        heights[margin] = int(
            np.flatnonzero((image < 200).any(axis=1)).max() - np.flatnonzero((image < 60).sum(axis=1) > 400).max()
        )
    plain, noted = heights.values()
    assert noted > plain + 15


def test_animation_keeps_accents_and_stays_below_its_size(tmp_path: Path) -> None:
    frame = draw_frame(make_result(), RANGE_M, 500)
    rng = np.random.default_rng(0)
    noisy = [frame ^ rng.integers(0, 2, frame.shape, np.uint8) * 255 for _ in range(8)]
    save_animation([frame] * 2, tmp_path / "still.gif")
    assert has_color(np.asarray(Image.open(tmp_path / "still.gif").convert("RGB")), HIDDEN)
    save_animation(noisy, tmp_path / "all.gif")
    save_animation(noisy, tmp_path / "noise.gif", frame_ms=100, max_bytes=int(0.7 * (tmp_path / "all.gif").stat().st_size))
    with Image.open(tmp_path / "noise.gif") as noise:
        assert noise.n_frames == 4 and noise.info["duration"] == 200
    assert palette().shape == (256, 3)
