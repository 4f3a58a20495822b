"""A run to look at while it goes on, or afterwards: in rerun's window, in a browser, or as a recording.

`open_viewer` gives something with `add(result)` whether anybody looks or not.
"""

from __future__ import annotations

import os
import socket
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np

from heal.agents.records import TickResult
from heal.tools.pictures.bev import picture_of
from heal.tools.viewer.layout import layout
from heal.tools.viewer.log import TickLog
from heal.tools.viewer.numbers import NumbersLog, log_heat
from heal.tools.viewer.scene import Placement, log_scene
from heal.types import Float64

VIEWS = ("native", "web")
HOST, PAGE_PORT, DATA_PORT = "127.0.0.1", 9090, 9876
MOST_POINTS = 20_000
# An ego that is suddenly this far away drives through another town: coordinates are counted anew from there.
ANOTHER_TOWN_M = 1000.0
# What a server keeps for those who open the page later; older ticks go first.
SERVER_MEMORY = "512MiB"


class RunViewer(Protocol):
    """Where the ticks of a run go to be looked at; a context manager."""

    @property
    def wants_views(self) -> bool:
        """Results should come with clouds and heat maps, which `RunOptions.keep_views` asks for."""
        ...

    @property
    def address(self) -> str | None:
        """The page to open in a browser, where there is one."""
        ...

    def add(self, result: TickResult) -> None:
        """Show a tick."""
        ...

    def wait(self) -> None:
        """After the last tick: return once nobody needs this process any more to look at the run."""
        ...

    def __enter__(self) -> RunViewer:
        """The viewer itself."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Write what is not yet written, and end."""
        ...


class NoViewer:
    """Nobody looks."""

    wants_views = False
    address: str | None = None

    def add(self, result: TickResult) -> None:
        """Do nothing."""

    def wait(self) -> None:
        """Return at once."""

    def __enter__(self) -> NoViewer:
        """The viewer itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Do nothing."""


class Viewer:
    """Writes a run's ticks to rerun: to its window, to the page that this process serves, to a file."""

    wants_views = True

    def __init__(self, recording: Any, range_m: Sequence[float], name: str, address: str | None = None) -> None:
        """Write to a `rerun.RecordingStream` that has its sinks; `address` is the page where one is served."""
        self.address = address
        self._recording, self._range_m, self._name = recording, range_m, name
        self._log = TickLog(recording)
        self._numbers = NumbersLog(self._log)
        self._origin_m: Float64 | None = None

    def add(self, result: TickResult) -> None:
        """Show a tick."""
        if self._origin_m is None:
            self._recording.send_blueprint(layout(result.world_SE3_ego, self._range_m, self._name))
        placement = Placement(self._origin_for(result), self._range_m, MOST_POINTS)
        picture = picture_of(result, self._range_m)
        self._log.begin(result)
        log_scene(self._log, placement, result, picture)
        log_heat(self._log, result.views)
        self._numbers.add(result, picture)
        self._log.end()

    def _origin_for(self, result: TickResult) -> Float64:
        ego_m = result.world_SE3_ego[:3, 3]
        if self._origin_m is None or np.linalg.norm(ego_m - self._origin_m) > ANOTHER_TOWN_M:
            self._origin_m = ego_m
        return self._origin_m

    def wait(self) -> None:
        """Where a page is served, serve it until Ctrl-C; a window and a file need nothing more."""
        self._recording.flush()
        try:
            while self.address is not None:
                time.sleep(1.0)
        except KeyboardInterrupt:
            return

    def __enter__(self) -> Viewer:
        """The viewer itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Write what is not yet written, and end; a page that was served is gone."""
        self._recording.flush()
        self._recording.disconnect()


def open_viewer(view: str | None, record: Path | None, range_m: Sequence[float], name: str) -> RunViewer:
    """A viewer for a run.

    Args:
        view: "native", rerun's own window; "web", a page on this machine; None for neither.
        record: a file to write as well, for `heal view` or `rerun`; None for none.
        range_m: of the alliance's grid.
        name: of the run, shown above the scene.

    Raises:
        ValueError: another kind of view, or a window where there is no screen.
    """
    if view is not None and view not in VIEWS:
        raise ValueError(f"unknown view {view!r}; there are {', '.join(VIEWS)}")
    if view is None and record is None:
        return NoViewer()
    import rerun as rr

    recording = rr.RecordingStream("heal", recording_id=f"{name} {time.time_ns()}")
    recording.send_recording_name(name)
    sinks: list[Any] = []
    address = None
    if record is not None:
        record.parent.mkdir(parents=True, exist_ok=True)
        sinks.append(rr.FileSink(str(record)))
    if view == "native":
        sinks.append(rr.GrpcSink(open_window(recording)))
    if view == "web":
        sinks.append(rr.GrpcServerSink(HOST, free_port(DATA_PORT), server_memory_limit=SERVER_MEMORY))
        address = serve_page(sinks[-1].uri)
    recording.set_sinks(*sinks)
    return Viewer(recording, range_m, name, address)


def open_window(recording: Any) -> str:
    """Open rerun's window for a recording; returns where it listens. ValueError where there is no screen."""
    import rerun as rr

    require_screen()
    port = free_port(DATA_PORT)
    # The one beside this Python: an environment that was not activated has no part in PATH.
    program = Path(sysconfig.get_path("scripts")) / "rerun"
    where = str(program) if program.exists() else None
    rr.spawn(port=port, connect=False, hide_welcome_screen=True, executable_path=where, recording=recording)
    return data_address(port)


def require_screen() -> None:
    """ValueError where no window can be opened."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise ValueError("no screen to open a window on (DISPLAY is not set); watch in a browser with `web`, or record a file")


def serve_page(data: str) -> str:
    """Serve rerun's web viewer from this process; returns the page's address."""
    import rerun as rr

    port = free_port(PAGE_PORT)
    rr.serve_web_viewer(web_port=port, open_browser=False)
    return page_address(port, data)


def page_address(port: int, data: str) -> str:
    """The address of rerun's web viewer, which tells it where the data comes from."""
    return f"http://{HOST}:{port}/?url={quote(data, safe='')}"


def data_address(port: int) -> str:
    """Where rerun's data is served at a port of this machine."""
    return f"rerun+http://{HOST}:{port}/proxy"


def free_port(wanted: int) -> int:
    """The wanted port if nothing listens on it, else any other one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError(f"no free port on {HOST}")
