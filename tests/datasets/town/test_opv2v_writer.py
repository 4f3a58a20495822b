"""The town on disk: complete, read back unchanged, equal for equal seeds, and never incomplete."""

import hashlib
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from heal.datasets.files import read_yaml
from heal.datasets.open import open_dataset
from heal.datasets.town import TownSource
from heal.datasets.town.camera_options import AS_THE_PRESET, CameraOptions
from heal.datasets.town.opv2v_writer import write_opv2v
from heal.types import SensorChoice, load_scene

ALL = frozenset({"lidar", "camera", "depth"})


def source(sensors=ALL, ticks=2, cameras=AS_THE_PRESET):
    return TownSource("test", seed=4, ticks=ticks, split="validate", sensors=sensors, stride=5, cameras=cameras)


def digest(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("town")
    return root, write_opv2v(source(), root)


def test_every_file_of_the_layout_is_there(written):
    root, report = written
    names = set(digest(root))
    scenario = f"validate/{report.name}"
    assert f"OPV2V/{scenario}/data_protocol.yaml" in names
    for agent in ("1000", "1001", "-1"):
        for stamp in ("000000", "000010"):
            stem = f"{scenario}/{agent}/{stamp}"
            expected = {f"OPV2V/{stem}{ending}" for ending in (".pcd", ".yaml", *(f"_camera{n}.png" for n in range(4)))}
            expected |= {f"OPV2V_Hetero/{stem}{ending}" for ending in ("_16.pcd", "_32.pcd", *(f"_depth{n}.png" for n in range(4)))}
            expected.add(f"OPV2V/additional/{stem}_bev_visibility.png")
            assert expected <= names
    assert len(names) == 1 + 6 * 13
    assert {path.name for path in root.iterdir()} == {"OPV2V", "OPV2V_Hetero"}
    assert (report.frames, report.agents, report.written) == (2, 3, True) and report.labelled > 0


def test_our_reader_finds_what_the_live_town_says(written):
    root, _ = written
    live, disk = source(), open_dataset(root, "validate", ALL)
    assert len(disk) == 2
    for index in range(2):
        first, second = load_scene(live, index), load_scene(disk, index)
        assert first.outline.scene_id == second.outline.scene_id
        assert first.outline.agent_ids == second.outline.agent_ids and second.outline.ego_id == "1000"
        assert first.outline.timestamp_ns == second.outline.timestamp_ns
        order = np.argsort(first.objects.ids)
        np.testing.assert_array_equal(first.objects.ids[order], np.sort(second.objects.ids))
        corners = second.objects.world_corners[np.argsort(second.objects.ids)]
        np.testing.assert_allclose(first.objects.world_corners[order], corners, atol=1e-9)
        for a, b in zip(first.frames, second.frames, strict=True):
            assert a.kind == b.kind
            np.testing.assert_allclose(a.world_SE3_agent, b.world_SE3_agent, atol=1e-12)
            np.testing.assert_allclose(a.lidar.points, b.lidar.points, atol=0.5 / 255 + 1e-6)
            np.testing.assert_array_equal(a.lidar.points[:, :3], b.lidar.points[:, :3])
            for mine, read in zip(a.cameras, b.cameras, strict=True):
                np.testing.assert_array_equal(mine.image, read.image)
                np.testing.assert_allclose(mine.agent_SE3_camera, read.agent_SE3_camera, atol=1e-9)
                np.testing.assert_allclose(mine.intrinsic, read.intrinsic)
                np.testing.assert_allclose(np.clip(mine.depth_m, 0, 255), read.depth_m, atol=0.51)


def test_thinned_clouds_can_be_read(written):
    root, _ = written
    full = open_dataset(root, "validate").agent_frame(0, "1000").lidar
    thin = open_dataset(root, "validate", beams=16).agent_frame(0, "1000").lidar
    assert 0 < len(thin.points) <= len(full.points)


@pytest.mark.parametrize("choice", [SensorChoice(beams=16), SensorChoice(labels="camera")])
def test_a_choice_means_the_same_on_disk_as_in_the_live_town(written, choice):
    root, _ = written
    live, disk = source(), open_dataset(root, "validate")
    for index in range(2):
        for agent_id in ("1000", "1001", "-1"):
            first, second = live.agent_frame(index, agent_id, choice), disk.agent_frame(index, agent_id, choice)
            np.testing.assert_array_equal(np.sort(first.objects.ids), np.sort(second.objects.ids))
            np.testing.assert_array_equal(first.lidar.points[:, :3], second.lidar.points[:, :3])


def test_equal_seeds_give_equal_files(written, tmp_path):
    root, _ = written
    write_opv2v(source(), tmp_path)
    assert digest(tmp_path) == digest(root)


def test_what_is_there_is_kept_and_other_settings_are_refused(written):
    root, report = written
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    again = write_opv2v(source(), root)
    assert not again.written and (again.labelled, again.hidden) == (report.labelled, report.hidden)
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError, match="remove it or choose another folder"):
        write_opv2v(source(ticks=1), root)


# Writes a scenario, and is killed when its last folder has just been moved into its place.
WRITE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from heal.datasets.opv2v import writer
from heal.datasets.town import TownSource
from heal.datasets.town.opv2v_writer import write_opv2v
move = writer._move_into_place
writer._move_into_place = lambda *where: (move(*where), os.kill(os.getpid(), signal.SIGKILL))
write_opv2v(TownSource("test", 4, 1, "validate", frozenset({"lidar"})), Path(sys.argv[1]))
"""


def test_what_a_killed_process_has_left_is_removed_and_what_it_has_written_kept(tmp_path):
    killed = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL and len(list(tmp_path.glob(".*"))) == 1
    report = write_opv2v(TownSource("test", 4, 1, "validate", frozenset({"lidar"})), tmp_path)
    assert not report.written and {path.name for path in tmp_path.iterdir()} == {"OPV2V"}


@pytest.fixture(scope="module")
def vehicles_alone(tmp_path_factory):
    """One instant: small images of the vehicles, with depth in steps of 5 cm."""
    root, options = tmp_path_factory.mktemp("fine"), CameraOptions((40, 30), False, "vehicles", 0.05)
    write_opv2v(source(ticks=1, cameras=options), root)
    return root, source(ticks=1, cameras=options)


def test_options_of_the_cameras_are_written_down_where_they_differ(written, vehicles_alone):
    protocols = [read_yaml(next(root.rglob("data_protocol.yaml")))["town"] for root, _ in (written, vehicles_alone)]
    assert "cameras" not in protocols[0]
    assert protocols[1]["cameras"] == {"image_px": [40, 30], "smooth": False, "agents": "vehicles", "depth_step_m": 0.05}
    root, live = vehicles_alone
    assert not write_opv2v(live, root).written
    with pytest.raises(FileExistsError, match="'smooth': False"):
        write_opv2v(source(ticks=1, cameras=replace(live.cameras, smooth=True)), root)


def test_an_agent_without_cameras_has_clouds_and_an_empty_map(vehicles_alone):
    root, live = vehicles_alone
    names = {path.name for path in root.rglob("-1/*")}
    assert names == {"000000.yaml", "000000.pcd", "000000_16.pcd", "000000_32.pcd", "000000_bev_visibility.png"}
    disk = open_dataset(root, "validate", ALL)
    assert disk.agent_frame(0, "-1").cameras == () and len(disk.agent_frame(0, "1001").cameras) == 4
    assert len(disk.agent_frame(0, "-1", SensorChoice(beams=32)).lidar.points)
    assert len(disk.agent_frame(0, "-1", SensorChoice(labels="camera")).objects) == 0
    origin = disk.frame_origin(0, "-1", SensorChoice(cameras=True, depth=True, labels="camera"))
    assert all(path.exists() for path in origin.files)
    for mine, read in zip(live.agent_frame(0, "1001").cameras, disk.agent_frame(0, "1001").cameras, strict=True):
        np.testing.assert_array_equal(mine.image, read.image)
        np.testing.assert_allclose(mine.intrinsic, read.intrinsic)


def test_finer_depth_is_read_back_to_the_step(written, vehicles_alone):
    root, live = vehicles_alone
    disk = open_dataset(root, "validate", ALL)
    for mine, read in zip(live.agent_frame(0, "1000").cameras, disk.agent_frame(0, "1000").cameras, strict=True):
        np.testing.assert_array_equal(read.depth_m, (np.rint(mine.depth_m.astype(np.float64) / 0.05) * 0.05).astype(np.float32))
        near = mine.depth_m < 200
        assert len(np.unique(np.rint(read.depth_m[near] * 2) % 2)) == 2, "odd and even half metres"
    modes = {Image.open(path).mode for path in written[0].rglob("*_depth?.png")}
    assert modes == {"L"}


def test_lidar_alone_writes_no_images(tmp_path):
    write_opv2v(source(frozenset({"lidar"}), ticks=1), tmp_path)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".pcd", ".yaml"}
    assert not (tmp_path / "OPV2V_Hetero").exists()


def test_a_stopped_run_leaves_nothing_behind(tmp_path):
    calls = []

    def stop_at_the_fourth():
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_opv2v(source(frozenset({"lidar"})), tmp_path, stop_at_the_fourth)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
