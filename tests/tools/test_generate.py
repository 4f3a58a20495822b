"""`heal generate`: the same files in one process or several, resumable, with a summary that says what is hidden."""

import hashlib

import pytest
import typer
from typer.testing import CliRunner

from heal.tools.generate import SEEDS_PER_RUN, Written, generate, plan


def run(*arguments):
    app = typer.Typer()
    app.command()(generate)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def digest(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_frames_are_shared_out_among_towns(tmp_path):
    jobs = plan(tmp_path, "test", "train", 5, 3, Written.LIDAR)
    assert [job.frames for job in jobs] == [2, 2, 1]
    assert [job.seed for job in jobs] == [3 * SEEDS_PER_RUN + number for number in range(3)]
    assert plan(tmp_path, "test", "train", 1, 0, Written.ALL)[0].sensors == {"lidar", "camera", "depth"}
    with pytest.raises(ValueError, match="demo, easy"):
        plan(tmp_path, "nowhere", "train", 1, 0, Written.LIDAR)
    with pytest.raises(ValueError, match="train, validate, test"):
        plan(tmp_path, "test", "val", 1, 0, Written.LIDAR)


def test_two_processes_write_what_one_writes_and_a_second_run_keeps_it(tmp_path):
    arguments = ("--preset", "test", "--split", "train", "--frames", 3, "--seed", 7, "--sensors", "lidar")
    result = run(tmp_path / "one", *arguments, "--workers", 1)
    assert result.exit_code == 0 and "hidden" in result.output and "0 were there already" in result.output
    assert run(tmp_path / "two", *arguments, "--workers", 2).exit_code == 0
    assert digest(tmp_path / "one") == digest(tmp_path / "two") and digest(tmp_path / "one")
    assert "2 were there already" in run(tmp_path / "one", *arguments, "--workers", 1).output
