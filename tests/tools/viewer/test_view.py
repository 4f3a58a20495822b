"""Tests of the live view: positions in the world, removal of agents that have left, labels, and reading a recording back."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import rerun as rr
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from heal.agents.faults import Fault
from heal.agents.records import AgentView, TickResult
from heal.detection.detections import Detections, GroundTruth
from heal.errors import UserError
from heal.se3 import transform_points
from heal.tools.pictures.colors import AGENT_COLORS, rgb_bytes
from heal.tools.view import view as view_command
from heal.tools.viewer import viewer as viewers
from heal.tools.viewer.log import TickLog
from heal.tools.viewer.numbers import heat_image, mosaic
from heal.tools.viewer.scene import VOXEL_M, Placement, foreground_cells, ground_level, link_label, subsample
from heal.tools.viewer.viewer import ORIGIN_MOVES_M, NoViewer, Page, Viewer, free_port, open_viewer
from tests.agents.made_ticks import PLACE, PLACES_M, RANGE_M, heat_of, made_tick, points_of, pose_of, troubled_tick


@dataclass
class FakeRecording:
    """Stands in for a `rerun.RecordingStream` and keeps everything that is logged.

    Attributes:
        entries: (tick, path, thing) in the order of logging; tick -1 for static things.
        blueprints: number of blueprints that were sent.
    """

    entries: list[tuple[int, str, Any]] = field(default_factory=list)
    blueprints: int = 0
    tick: int = -1

    def set_time(self, timeline: str, **when: Any) -> None:
        self.tick = when.get("sequence", self.tick)

    def log(self, path: list[str], *things: Any, static: bool = False) -> None:
        self.entries += [(-1 if static else self.tick, "/".join(path), thing) for thing in things]

    def send_blueprint(self, blueprint: Any) -> None:
        self.blueprints += 1

    def flush(self) -> None: ...

    def disconnect(self) -> None: ...

    def at(self, tick: int, path: str) -> Any:
        """Return the one thing that was logged in a tick at a path."""
        [thing] = [thing for when, where, thing in self.entries if (when, where) == (tick, path)]
        return thing

    def shown(self, tick: int) -> set[str]:
        """Return the paths that show something after a tick."""
        there: set[str] = set()
        for when, path, thing in self.entries:
            if 0 <= when <= tick:
                there = there - {path} if isinstance(thing, rr.Clear) else there | {path}
        return there


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    """Make things that rerun cannot show an error; in a run they are a warning, since a view must not stop the run."""
    rr.set_strict_mode(True)
    yield
    rr.set_strict_mode(False)


def shown(*results: TickResult) -> FakeRecording:
    recording = FakeRecording()
    with Viewer(recording, RANGE_M, "made") as viewer:
        for result in results:
            viewer.add(result)
    return recording


def numbers(batch: Any) -> np.ndarray[Any, np.dtype[Any]]:
    """Return a rerun component batch as an array."""
    return np.array(batch.as_arrow_array().to_pylist())


def test_a_viewer_and_its_absence_can_stand_for_each_other() -> None:
    public = [{name for name in dir(kind) if not name.startswith("_")} for kind in (Viewer, NoViewer)]
    assert public[0] - {"address"} == public[1] - {"address"} and {"add", "wait", "wants_views"} <= public[0]
    with open_viewer(None, None, RANGE_M, "nobody") as viewer:
        viewer.add(made_tick())
        viewer.wait()
        assert isinstance(viewer, NoViewer) and not viewer.wants_views and viewer.address is None


def test_views_that_cannot_be_opened_raise_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="native, web"):
        open_viewer("cinema", None, RANGE_M, "")
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(ValueError, match="web"):
        open_viewer("native", None, RANGE_M, "")


def test_the_page_is_served_to_this_machine_alone_and_ends_with_the_view() -> None:
    page = Page("rerun+http://127.0.0.1:1/proxy")
    with Viewer(FakeRecording(), RANGE_M, "made", page) as viewer:
        assert viewer.address == page.address
        with urllib.request.urlopen(page.address, timeout=10) as answer:
            assert answer.status == 200
        [process] = [child for child in psutil.Process().children() if child.name() == "rerun"]
        assert {one.laddr.ip for one in process.net_connections("inet") if one.status == "LISTEN"} == {"127.0.0.1"}
    assert not process.is_running()


def test_a_page_that_cannot_be_served_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewers, "rerun_program", lambda: "/bin/false")
    with pytest.raises(UserError, match="rerun cannot serve its page"):
        Page("rerun+http://127.0.0.1:1/proxy")


def test_the_town_stays_still_while_agents_drive() -> None:
    """A point of the world stays where it is in the view within 2 mm, although the world's origin is 4000 km away."""
    recording = shown(made_tick(0), made_tick(9))
    for tick in (0, 9):
        transform = recording.at(tick, "world/agents/-1")
        moved, turned = numbers(transform.translation)[0], numbers(transform.mat3x3)[0].reshape(3, 3).T
        seen = numbers(recording.at(tick, "world/agents/-1/cloud").positions)
        expected = transform_points(pose_of("-1", tick), points_of("-1")[:, :3].astype(np.float64)) - PLACE
        placed = seen @ turned.T + moved
        assert np.abs(placed[:, None] - expected[None]).sum(axis=2).min(axis=1).max() < 2e-3
    assert recording.blueprints == 1


def test_the_origin_moves_to_an_ego_that_is_far_away() -> None:
    there = made_tick(1)
    world_SE3_ego = there.world_SE3_ego.copy()
    world_SE3_ego[0, 3] += ORIGIN_MOVES_M + 1
    recording = shown(made_tick(0), replace(there, world_SE3_ego=world_SE3_ego))
    assert np.abs(numbers(recording.at(1, "world/ego").translation)).max() == 0


def test_an_agent_that_leaves_is_removed_and_others_are_not() -> None:
    second = made_tick(1)
    gone = replace(second, views=second.views[:2], messages=second.messages[:2])
    recording = shown(made_tick(0), gone, made_tick(2))
    of_leaver = {path for path in recording.shown(0) if "-1" in path and path.startswith("world")}
    assert len(of_leaver) == 7 and "world/links/-1" in of_leaver
    assert recording.shown(0) - recording.shown(1) == of_leaver
    assert recording.shown(2) == recording.shown(0)


def test_agents_keep_their_colours_when_the_ego_changes() -> None:
    log = TickLog(FakeRecording())
    first = [log.color(name) for name in ("ego", "b", "c")]
    assert first == list(AGENT_COLORS[:3])
    assert [log.color(name) for name in ("c", "b", "d", "ego")] == [first[2], first[1], AGENT_COLORS[3], first[0]]
    assert AGENT_COLORS[0] not in [log.color(f"other {i}") for i in range(20)]


def test_boxes_are_where_they_were_found_and_brighter_if_surer() -> None:
    found = shown(made_tick(0)).at(0, "world/ego/detections")
    assert numbers(found.centers)[:, :2] == pytest.approx(np.array(PLACES_M), abs=1e-4)
    assert numbers(found.half_sizes)[0] == pytest.approx([2.2, 0.9, 0.75], abs=1e-4)
    assert 2 * np.arcsin(numbers(found.quaternions)[:, 2]) == pytest.approx([0.3] * 3, abs=1e-4)
    surest, _, least_sure = (color >> 24 for color in found.colors.as_arrow_array().to_pylist())
    assert surest > least_sure


def test_a_tick_without_anything_can_be_shown_too() -> None:
    empty = replace(
        made_tick(0), detections=Detections.empty(), ground_truth=GroundTruth.empty(), views=(), messages=made_tick().messages[:1]
    )
    recording = shown(empty)
    assert "world/ego/detections" in recording.shown(0) and not any("agents" in path for path in recording.shown(0))


def test_links_show_the_status_of_messages() -> None:
    used, trouble = made_tick(0), troubled_tick(3)
    by_id = {record.agent_id: record for record in used.messages}
    assert link_label(used, by_id["b"])[0] == "2.0 kB  40 ms"
    by_id = {record.agent_id: record for record in trouble.messages}
    assert link_label(trouble, by_id["b"])[0] == "late, held 200 ms at 0.50"
    assert link_label(trouble, by_id["-1"])[0] == "rejected  500 B  40 ms"
    lost = made_tick(0, b="lost")
    assert link_label(lost, lost.messages[1])[0] == "lost  2.0 kB"
    colors = {words[1] for words in (link_label(used, used.messages[1]), *(link_label(trouble, r) for r in trouble.messages[1:]))}
    assert len(colors) == 3
    recording = shown(made_tick(0))
    ends = numbers(recording.at(0, "world/links/-1").strips)[0][[0, -1]]
    assert ends == pytest.approx(np.array([[0, 20, 0], [0, 0, 0]]), abs=1e-3)
    assert "world/links/ego" not in recording.shown(0)


def test_faults_and_rejections_are_listed_at_their_level() -> None:
    recording = shown(replace(troubled_tick(0), faults=(Fault("agent crashed", "-1"), Fault("fusion node restarted"))))
    lines = [thing for _, path, thing in recording.entries if path == "faults"]
    told = [(line.text.as_arrow_array()[0].as_py(), line.level.as_arrow_array()[0].as_py()) for line in lines]
    assert told[:2] == [("agent crashed: -1", "ERROR"), ("fusion node restarted", "INFO")]
    assert told[2][1] == "WARN" and "wrong base" in told[2][0] and len(told) == 3


def test_series_hold_the_ticks_numbers() -> None:
    recording = shown(made_tick(0), made_tick(1, found=0, b="lost"))

    def series(path: str) -> list[float]:
        return [numbers(thing.scalars)[0] for when, where, thing in recording.entries if where == path and when >= 0]

    assert series("bytes/b") == [2.0, 2.0] and series("link_ms/b") == [40.0] and series("bytes/ego") == []
    assert series("boxes/detections") == [3, 0] == series("boxes/found") and series("boxes/labelled") == [3, 3]
    assert series("ap/0.5") == [1.0, 0.5]


@given(st.integers(0, 2**31), st.integers(1, 300))
def test_thinned_clouds_are_some_of_the_points_and_few(seed: int, most: int) -> None:
    points = np.random.default_rng(seed).uniform(-3, 3, (400, 4)).astype(np.float32)
    kept = subsample(points, most)
    assert 1 <= len(kept) <= most and {tuple(p) for p in kept.tolist()} <= {tuple(p) for p in points[:, :3].tolist()}
    assert len(np.unique(np.floor(kept / VOXEL_M), axis=0)) == len(kept)


def test_heat_lies_where_it_was_measured() -> None:
    centres, warmth = foreground_cells(heat_of("ego"), (-20.0, -10.0, -3.0, 20.0, 10.0, 1.0))
    assert centres.tolist() == [[11.0, -7.0]] and warmth.tolist() == [1.0]
    tile = heat_image(heat_of("ego"), AGENT_COLORS[0])
    # The second row from below, as +y is up.
    assert np.unravel_index(tile.sum(axis=2).argmax(), tile.shape[:2]) == (8, 15)


@given(st.integers(1, 9), st.integers(2, 12), st.integers(2, 12))
def test_no_tile_of_a_mosaic_covers_another(count: int, ny: int, nx: int) -> None:
    tiles = [np.full((ny, nx, 3), 100 + i, np.uint8) for i in range(count)]
    image, places = mosaic(tiles)
    for (x, y), tile in zip(places, tiles, strict=True):
        assert np.array_equal(image[y : y + ny, x : x + nx], tile)


def test_ground_is_below_an_agent_with_cameras_alone_where_labels_stand() -> None:
    result = made_tick(0)
    with_cameras: AgentView = result.views[1]
    assert len(with_cameras.points) == 0
    assert ground_level(with_cameras, result) == pytest.approx(-1.75, abs=1e-3)
    assert ground_level(with_cameras, replace(result, ground_truth=GroundTruth.empty())) == 0.0


def test_poses_keep_their_precision_far_from_the_origin() -> None:
    placement = Placement(np.array(PLACE), RANGE_M, 10)
    assert numbers(placement.transform(pose_of("b")).translation)[0] == pytest.approx([0, 10, 0], abs=1e-6)


def test_a_recording_can_be_read_back(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "run.rrd"
    with open_viewer(None, path, RANGE_M, "made") as viewer:
        assert viewer.wants_views and viewer.address is None
        for result in (made_tick(0), troubled_tick(1)):
            viewer.add(result)
        viewer.wait()
    verified = subprocess.run([sys.executable, "-m", "rerun", "rrd", "verify", str(path)], check=False, capture_output=True)
    assert verified.returncode == 0, verified.stderr
    told = subprocess.run([sys.executable, "-m", "rerun", "rrd", "print", str(path)], check=True, capture_output=True, text=True)
    for entity in ("/world/agents/b/cloud", "/world/ego/hidden", "/world/links/b", "/heat", "/ap/0.7", "/faults"):
        assert entity in told.stdout
    assert path.stat().st_size < 2 * 200_000


def test_a_taken_port_is_passed_over() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wanted = taken.getsockname()[1]
        assert free_port(wanted) != wanted
    assert free_port(wanted) == wanted


def test_playing_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    import typer

    app = typer.Typer()
    app.command()(view_command)
    with pytest.raises(UserError, match="--record"):
        CliRunner().invoke(app, [str(tmp_path / "none.rrd")], catch_exceptions=False)


def test_colors_are_bytes() -> None:
    assert rgb_bytes("#0d80ff") == (13, 128, 255)
