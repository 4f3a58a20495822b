"""`heal generate`: the same files from one process and from several, kept by a second run; the summary counts hidden vehicles."""

import hashlib
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import active_children, get_context
from pathlib import Path

import pytest

from heal.tools import generate
from heal.tools.generate import SEEDS_PER_RUN, SensorSet, plan_scenarios
from tests.tools.command import run_command


def digest(root: Path) -> dict[str, str]:
    """Return the hash of every file below a folder, by relative path."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_frames_are_divided_among_towns(tmp_path: Path) -> None:
    jobs = plan_scenarios(tmp_path, "test", "train", 5, 3, SensorSet.LIDAR)
    assert [job.frames for job in jobs] == [2, 2, 1]
    assert [job.seed for job in jobs] == [3 * SEEDS_PER_RUN + number for number in range(3)]
    assert plan_scenarios(tmp_path, "test", "train", 1, 0, SensorSet.ALL)[0].sensors == {"lidar", "camera", "depth"}
    with pytest.raises(ValueError, match="demo, easy"):
        plan_scenarios(tmp_path, "nowhere", "train", 1, 0, SensorSet.LIDAR)
    with pytest.raises(ValueError, match="train, validate, test"):
        plan_scenarios(tmp_path, "test", "val", 1, 0, SensorSet.LIDAR)


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
