"""Helpers that run commands in tests."""

import signal
from pathlib import Path

from typer.testing import CliRunner

from heal.tools.cli import app


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
