"""Helpers that run commands in tests."""

import signal
from pathlib import Path

from typer.testing import CliRunner

from heal.tools.cli import app
from heal.tools.shared.made_by import AllianceRecord, Machine, MadeBy, ScenesRecord

MADE_BY = MadeBy(
    command="heal simulate --alliance alliance --out out",
    folder="/nowhere",
    version="1.2.3",
    date="2030-01-02T03:04:05+00:00",
    alliance=AllianceRecord(path="alliance", hash="0123456789abcdef"),
    scenes=ScenesRecord(source="town, preset demo", split="test", types="m1"),
    machine=Machine(cpu="a processor", cores=2, gpu=None, python="3.11.0", torch="2.9.0"),
)


def run_command(*arguments: object) -> str:
    """Run `heal` with these arguments in this process, check that it succeeds, and return its output."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def generate_town(path: Path) -> None:
    """Write LiDAR scenes of a tiny town, for training and for testing."""
    for split in ("train", "test"):
        run_command("generate", path, "--preset", "test", "--split", split, "--frames", 4, "--sensors", "lidar", "--workers", 1)


def restore_interrupts() -> None:
    """Make a child process react to Ctrl-C, as its `preexec_fn`: children of a background job inherit that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
