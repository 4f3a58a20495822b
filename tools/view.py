"""`heal view`: plays the recording of a run in rerun's window or as a web page."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from heal.agents.process import be_killed_with_parent
from heal.errors import UserError
from heal.tools.viewer.viewer import (
    DATA_PORT,
    HOST,
    PAGE_PORT,
    data_address,
    free_port,
    page_address,
    require_screen,
    rerun_program,
)

console = Console()


def view(
    file: Annotated[Path, typer.Argument(help="Recording that `heal simulate --record` has written.")],
    web: Annotated[
        bool, typer.Option("--web", help="Serve the recording as a page on this machine until Ctrl-C, instead of opening a window.")
    ] = False,
) -> None:
    """Play back a recorded run in 3D.

    \b
    heal simulate --alliance configs/demo/alliance --record runs/drive.rrd --out runs/drive
    heal view runs/drive.rrd
    heal view runs/drive.rrd --web
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    if not file.is_file():
        raise UserError(f"no recording {file}; `heal simulate --record {file}` writes one")
    if web:
        page, data = free_port(PAGE_PORT), free_port(DATA_PORT)
        console.print(f"open {page_address(page, data_address(data))} in a browser; Ctrl-C stops the page", soft_wrap=True)
        play(file, "--serve-web", "--bind", HOST, "--port", str(data), "--web-viewer-port", str(page))
    else:
        require_screen()
        play(file)


def play(file: Path, *arguments: str) -> None:
    """Run rerun on a recording until its window is closed or Ctrl-C.

    Args:
        file: the recording.
        arguments: further command-line arguments of rerun.

    Raises:
        ValueError: rerun has failed.
    """
    quiet = {"RUST_LOG": "warn", **os.environ}
    try:
        command = [rerun_program(), str(file), *arguments]
        status = subprocess.run(command, env=quiet, check=False, preexec_fn=be_killed_with_parent).returncode
    except KeyboardInterrupt:
        return
    if status:
        raise UserError(
            f"{file} could not be played, rerun ended with status {status}; was it written by a newer version of rerun?"
        )
