"""`heal generate`: the same files from one process and from several, kept by a second run; the summary counts hidden vehicles."""

import hashlib
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import active_children, get_context
from pathlib import Path

import pytest

from heal.datasets.files import read_depth, read_image, read_yaml
from heal.datasets.town.camera_options import CameraOptions
from heal.errors import UserError
from heal.tools import generate
from heal.tools.generate import SEEDS_PER_RUN, ScenarioJob, SensorSet, TownChoice, plan_scenarios
from tests.tools.command import run_command


def digest(root: Path) -> dict[str, str]:
    """Return the hash of every file below a folder, by relative path."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_frames_are_divided_among_towns(tmp_path: Path) -> None:
    def plan(preset: str, split: str, frames: int, seed: int, sensors: SensorSet, each: int | None = None) -> list[ScenarioJob]:
        return plan_scenarios(tmp_path, TownChoice(preset, split, frames, seed, each), sensors, CameraOptions())

    jobs = plan("test", "train", 5, 3, SensorSet.LIDAR)
    assert [job.frames for job in jobs] == [2, 2, 1]
    assert [job.seed for job in jobs] == [3 * SEEDS_PER_RUN + number for number in range(3)]
    assert [job.frames for job in plan("test", "train", 7, 3, SensorSet.LIDAR, 5)] == [5, 2]
    assert plan("test", "train", 1, 0, SensorSet.ALL)[0].sensors == {"lidar", "camera", "depth"}
    with pytest.raises(ValueError, match="demo, easy"):
        plan("nowhere", "train", 1, 0, SensorSet.LIDAR)
    with pytest.raises(ValueError, match="train, validate, test"):
        plan("test", "val", 1, 0, SensorSet.LIDAR)


def test_options_of_cameras_and_towns_reach_the_files(tmp_path: Path) -> None:
    options = ("--image-px", "40x30", "--no-smooth", "--camera-agents", "ego", "--depth-step-m", 0.25, "--frames-per-town", 3)
    output = run_command("generate", tmp_path, "--preset", "test", "--frames", 3, *options, "--workers", 1)
    assert "1 (0 existed already)" in output
    images, depths = sorted(tmp_path.rglob("*_camera?.png")), sorted(tmp_path.rglob("*_depth?.png"))
    assert len(images) == len(depths) == 12 and {path.parent.name for path in images + depths} == {"1000"}
    assert all(read_image(path).shape == (30, 40, 3) for path in images)
    depth = read_depth(depths[0])
    assert (depth * 4 == (depth * 4).round()).all() and (depth != depth.round()).any()
    town = read_yaml(next(tmp_path.rglob("data_protocol.yaml")))["town"]
    assert town["frames"] == 3 and town["cameras"]["smooth"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--image-px", "256"), "expected WIDTHxHEIGHT such as 256x192, got '256'"),
        (("--image-px", "256x8"), "pixels a side"),
        (("--camera-agents", "cars"), "there are all, vehicles, roadside, ego"),
        (("--depth-step-m", 2), "a step of depth from 0.01 to 1 m, got 2"),
        (("--sensors", "lidar", "--no-smooth"), "--sensors lidar writes no images"),
    ],
)
def test_options_without_meaning_are_refused(options: tuple[object, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        run_command("generate", tmp_path, *options)
    assert not list(tmp_path.iterdir())


def test_two_processes_write_the_files_of_one_and_a_second_run_keeps_them(tmp_path: Path) -> None:
    options = ("--preset", "test", "--split", "train", "--frames", 3, "--seed", 7, "--sensors", "lidar")
    output = run_command("generate", tmp_path / "one", *options, "--workers", 1)
    assert "hidden" in output and "0 existed already" in output
    run_command("generate", tmp_path / "two", *options, "--workers", 2)
    assert digest(tmp_path / "one") == digest(tmp_path / "two") and digest(tmp_path / "one")
    assert "2 existed already" in run_command("generate", tmp_path / "one", *options, "--workers", 1)


def test_processes_that_do_not_stop_in_time_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is asked to stop may be in the middle of building a town."""
    monkeypatch.setattr(generate, "STOP_S", 0.1)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        busy = pool.submit(time.sleep, 600)
        [worker] = active_children()
        generate._end_processes(pool)
        worker.join(10)
        assert worker.exitcode is not None
    assert busy.exception() is not None
