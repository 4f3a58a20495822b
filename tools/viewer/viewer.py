"""The live view of a run: sends every tick to rerun's window, to a web page, or to a recording file.

`open_viewer` returns a `RunViewer` in every case; without a view and a recording it is one that does nothing.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np
from typing_extensions import Self

from heal.agents.process import be_killed_with_parent
from heal.agents.records import TickResult
from heal.errors import UserError, require_package
from heal.tools.pictures.picture import picture_of
from heal.tools.viewer.layout import layout
from heal.tools.viewer.log import TickLog
from heal.tools.viewer.numbers import NumbersLog, log_cameras, log_heat
from heal.tools.viewer.scene import Placement, log_scene
from heal.types import Float64

VIEWS = ("native", "web")
HOST, PAGE_PORT, DATA_PORT = "127.0.0.1", 9090, 9876
MOST_POINTS = 20_000
# An ego farther than this from the view's origin is in another world: the origin moves to the ego, to keep single precision.
ORIGIN_MOVES_M = 1000.0
# Memory for ticks that a page shows when it is opened late; the server drops the oldest ticks first.
SERVER_MEMORY = "512MiB"
PAGE_STARTS_S = 30.0


class RunViewer(Protocol):
    """Receives the ticks of a run and shows them; a context manager."""

    @property
    def wants_views(self) -> bool:
        """Whether results need point clouds and heat maps, which `RunOptions.keep_views` adds to them."""
        ...

    @property
    def address(self) -> str | None:
        """Address of the page to open in a browser; None without a page."""
        ...

    def add(self, result: TickResult) -> None:
        """Show the result of one tick."""
        ...

    def wait(self) -> None:
        """Block after the last tick for as long as a browser needs this process."""
        ...

    def __enter__(self) -> RunViewer:
        """Return the viewer itself for a `with` statement."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Write pending data and close the outputs."""
        ...


class NoViewer:
    """Viewer of a run without a view and without a recording: does nothing."""

    wants_views = False
    address: str | None = None

    def add(self, result: TickResult) -> None:
        """Ignore the result of a tick."""

    def wait(self) -> None:
        """Return at once: no browser needs this process."""

    def __enter__(self) -> NoViewer:
        """Return the viewer itself for a `with` statement."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close nothing: there is no output."""


class LiveView:
    """A rerun recording with its outputs: a window, a page, a file. A context manager that closes them."""

    def __init__(self, recording: Any, page: Page | None = None) -> None:
        """Take over a `rerun.RecordingStream` whose sinks are set, and the page that shows it; None without a page."""
        self.recording, self._page = recording, page
        self.address = None if page is None else page.address

    def wait(self) -> None:
        """Serve the page until Ctrl-C; return at once if there is no page."""
        self.recording.flush()
        try:
            while self.address is not None:
                time.sleep(1.0)
        except KeyboardInterrupt:
            return

    def __enter__(self) -> Self:
        """Return the view itself for a `with` statement."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Write pending data and close the recording; the page is no longer served."""
        self.recording.flush()
        self.recording.disconnect()
        if self._page is not None:
            self._page.close()


class Viewer(LiveView):
    """Viewer that writes the ticks of a run to a rerun recording, and so to its window, web page or file."""

    wants_views = True

    def __init__(self, recording: Any, range_m: Sequence[float], name: str, page: Page | None = None) -> None:
        """Start a view without a tick.

        Args:
            recording: `rerun.RecordingStream` whose sinks are set.
            range_m: x_min, y_min, z_min, x_max, y_max, z_max of the grid around every agent.
            name: name of the run, shown above the scene.
            page: the page on which the run is shown; None without a page.
        """
        super().__init__(recording, page)
        self._range_m, self._name = range_m, name
        self._log = TickLog(recording)
        self._numbers = NumbersLog(self._log)
        self._origin_m: Float64 | None = None
        self._shows_cameras = False

    def add(self, result: TickResult) -> None:
        """Show a tick; the first one also sets the panels."""
        has_cameras = any(view.images for view in result.views)
        if self._origin_m is None or (has_cameras and not self._shows_cameras):
            self._send_layout(result, has_cameras)
        placement = Placement(self._origin_for(result), self._range_m, MOST_POINTS)
        picture = picture_of(result, self._range_m)
        self._log.begin(result.tick, result.timestamp_ns)
        log_scene(self._log, placement, result, picture)
        log_heat(self._log, result.views)
        log_cameras(self._log, result.views)
        self._numbers.add(result, picture)
        self._log.end()

    def _send_layout(self, result: TickResult, has_cameras: bool) -> None:
        """Set the panels, with one for cameras once the first image has come."""
        self._shows_cameras = has_cameras
        self.recording.send_blueprint(layout(result.world_SE3_ego, self._range_m, self._name, has_cameras))

    def _origin_for(self, result: TickResult) -> Float64:
        """Return the view's origin (3,) in the world; moves it to the ego if the ego is too far away."""
        ego_m = result.world_SE3_ego[:3, 3]
        if self._origin_m is None or np.linalg.norm(ego_m - self._origin_m) > ORIGIN_MOVES_M:
            self._origin_m = ego_m
        return self._origin_m


class Page:
    """The web page of rerun's viewer, which a process of its own serves to this machine alone; rerun's library serves it to all."""

    def __init__(self, data: str) -> None:
        """Serve the page for data at an address, and wait until it answers; UserError if it does not."""
        port = free_port(PAGE_PORT)
        self.address = page_address(port, data)
        command = [rerun_program(), "--serve-web", data, "--bind", HOST, "--web-viewer-port", str(port)]
        self._process = subprocess.Popen(command, env={"RUST_LOG": "error", **os.environ}, preexec_fn=be_killed_with_parent)
        until_s = time.monotonic() + PAGE_STARTS_S
        while not _answers(port):
            if self._process.poll() is not None or time.monotonic() > until_s:
                self.close()
                raise UserError(f"rerun cannot serve its page at port {port} of this machine; use --record, and `heal view` later")
            time.sleep(0.05)

    def close(self) -> None:
        """Serve the page no longer."""
        self._process.kill()
        self._process.wait()


def _answers(port: int) -> bool:
    """Return whether a program listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def rerun_program() -> str:
    """Return the path of rerun's program in this Python's environment; the command `rerun` would start it as a further process.

    Raises:
        UserError: rerun is not installed.
    """
    require_package("rerun_cli", "view", "the live view")
    import rerun_cli

    return str(Path(rerun_cli.__file__).with_name("rerun"))


def open_viewer(view: str | None, record: Path | None, range_m: Sequence[float], name: str) -> RunViewer:
    """Open the outputs of a run's view and return the viewer that writes to them.

    Args:
        view: "native" for rerun's window; "web" for a page on this machine; None for neither.
        record: recording file to write, for `heal view` or `rerun`; None for no file.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max of the alliance's grid.
        name: name of the run, shown above the scene.

    Raises:
        ValueError: the view is unknown, or a window is wanted on a machine without a screen.
    """
    if view is None and record is None:
        return NoViewer()
    recording, page = open_recording(view, record, name)
    return Viewer(recording, range_m, name, page)


def open_recording(view: str | None, record: Path | None, name: str) -> tuple[Any, Page | None]:
    """Open a `rerun.RecordingStream` for a view, a file or both; return it, and the page that shows it, None without a page.

    The arguments are those of `open_viewer`, of which the view or the file is given.

    Raises:
        ValueError: the view is unknown, or a window is wanted on a machine without a screen.
    """
    if view is not None and view not in VIEWS:
        raise UserError(f"unknown view {view!r}; there are {', '.join(VIEWS)}")
    require_package("rerun", "view", "the live view")
    import rerun as rr

    recording = rr.RecordingStream("heal", recording_id=f"{name} {time.time_ns()}")
    recording.send_recording_name(name)
    sinks: list[Any] = []
    page = None
    if record is not None:
        record.parent.mkdir(parents=True, exist_ok=True)
        sinks.append(rr.FileSink(str(record)))
    if view == "native":
        sinks.append(rr.GrpcSink(open_window(recording)))
    if view == "web":
        sinks.append(rr.GrpcServerSink(HOST, free_port(DATA_PORT), server_memory_limit=SERVER_MEMORY))
        page = Page(sinks[-1].uri)
    recording.set_sinks(*sinks)
    return recording, page


def open_window(recording: Any) -> str:
    """Open rerun's window for a recording.

    Returns:
        The address at which the window receives data.

    Raises:
        ValueError: there is no screen.
    """
    import rerun as rr

    require_screen()
    port = free_port(DATA_PORT)
    # Take the program of this Python's environment: PATH does not contain it unless the environment is activated.
    program = Path(sysconfig.get_path("scripts")) / "rerun"
    executable = str(program) if program.exists() else None
    rr.spawn(port=port, connect=False, hide_welcome_screen=True, executable_path=executable, recording=recording)
    return data_address(port)


def require_screen() -> None:
    """Check that a window can be opened.

    Raises:
        ValueError: there is no screen.
    """
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UserError("no screen to open a window on (DISPLAY is not set); watch in a browser with `web`, or record a file")


def page_address(port: int, data: str) -> str:
    """Return the address of rerun's web viewer at a port, for data at an address; dark on every system, as the views are."""
    return f"http://{HOST}:{port}/?url={quote(data, safe='')}&theme=dark"


def data_address(port: int) -> str:
    """Return the address of rerun's data server at a port of this machine."""
    return f"rerun+http://{HOST}:{port}/proxy"


def free_port(wanted: int) -> int:
    """Return the wanted port if no program listens on it, else another free port.

    Raises:
        OSError: there is no free port.
    """
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise UserError(f"no free port on {HOST}")
