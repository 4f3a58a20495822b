"""Running commands in tests."""

import signal
from pathlib import Path

from typer.testing import CliRunner

from heal.tools.cli import app


def run_command(*words: object) -> str:
    """Run `heal ...`; its output."""
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def generate_town(path: Path) -> None:
    """A tiny town's scenes for training and for testing, clouds only."""
    for split in ("train", "test"):
        run_command("generate", path, "--preset", "test", "--split", split, "--frames", 4, "--sensors", "lidar", "--workers", 1)


def restore_interrupts() -> None:
    """Let a child process take Ctrl-C, for `preexec_fn`: a background job ignores SIGINT, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
