"""The 2D panels of the live view: series over the ticks, heat maps side by side, and a list of faults and rejected messages."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from heal.agents.records import AgentView, TickResult
from heal.detection.metrics import IOU_THRESHOLDS, FrameMatch, average_precision
from heal.tools.pictures.colors import BACKGROUND, SCORE_COLORS, TRUTH, rgb_bytes
from heal.tools.pictures.picture import BevPicture
from heal.tools.viewer.log import TickLog
from heal.types import Float32, UInt8

HEAT, CAMERAS, FAULTS = ("heat",), ("cameras",), ("faults",)
BYTES, LINK_MS, BOXES, AP = ("bytes",), ("link_ms",), ("boxes",), ("ap",)
AP_IOUS = {0.5: "#6cb6ff", 0.7: "#b79af2"}
AP_TICKS = 50
GAP_PX = 14


class NumbersLog:
    """Writes the series of a run and its faults; keeps the matches of the last `AP_TICKS` ticks for average precision."""

    def __init__(self, log: TickLog) -> None:
        """Name the series that every run has; the series of an agent are named at its first message."""
        self._log = log
        self._matches: deque[FrameMatch] = deque(maxlen=AP_TICKS)
        self._known: set[str] = set()
        self._name_series((*BOXES, "detections"), "detections", SCORE_COLORS[1])
        self._name_series((*BOXES, "labelled"), "labelled", TRUTH)
        self._name_series((*BOXES, "found"), "labelled and found", "#ffffff")
        for iou, color in AP_IOUS.items():
            self._name_series((*AP, f"{iou:g}"), f"AP@{iou:g}", color)

    def add(self, result: TickResult, picture: BevPicture) -> None:
        """Append a tick to every series, and its faults to the list."""
        self._add_messages(result)
        counts = {"detections": len(result.detections), "labelled": len(result.ground_truth), "found": int(picture.found.sum())}
        for name, count in counts.items():
            self._append((*BOXES, name), count)
        self._matches.append(result.match)
        ap = average_precision(self._matches, IOU_THRESHOLDS).ap
        for iou in AP_IOUS:
            if (value := ap[iou]) is not None:
                self._append((*AP, f"{iou:g}"), value)
        self._add_faults(result)

    def _add_messages(self, result: TickResult) -> None:
        """Append size and link time of each message over a link."""
        for record in result.messages:
            if record.own:
                continue
            if record.agent_id not in self._known:
                self._known.add(record.agent_id)
                for series in (BYTES, LINK_MS):
                    self._name_series((*series, record.agent_id), record.agent_id, self._log.color(record.agent_id))
            self._append((*BYTES, record.agent_id), record.size_bytes / 1e3)
            if record.link_ms is not None:
                self._append((*LINK_MS, record.agent_id), record.link_ms)

    def _add_faults(self, result: TickResult) -> None:
        """List faults as errors, recoveries as information, and rejected messages as warnings."""
        import rerun as rr

        for fault in result.faults:
            self._log.append(FAULTS, rr.TextLog(fault.description, level="INFO" if fault.is_recovery else "ERROR"))
        for record in result.messages:
            if record.status == "rejected":
                self._log.append(FAULTS, rr.TextLog(f"message of {record.agent_id} rejected: {record.explanation}", level="WARN"))

    def _append(self, path: tuple[str, ...], value: float) -> None:
        """Append a number of this tick to a series."""
        import rerun as rr

        self._log.append(path, rr.Scalars(float(value)))

    def _name_series(self, path: tuple[str, ...], name: str, color: str) -> None:
        """Set the name and the colour, "#rrggbb", of a series."""
        import rerun as rr

        self._log.set_static(path, rr.SeriesLines(names=[name], colors=[rgb_bytes(color)], widths=[2.0]))


def log_heat(log: TickLog, views: Sequence[AgentView]) -> None:
    """Show the heat maps of all agents in one image, each with its agent's name and in its agent's colour."""
    if not views:
        return
    _show_mosaic(log, HEAT, [view.agent_id for view in views], [heat_image(view.heat, log.color(view.agent_id)) for view in views])


def log_cameras(log: TickLog, views: Sequence[AgentView]) -> None:
    """Show what all cameras see in one image, each with its agent's name and in its agent's colour."""
    images = [(view.agent_id, image) for view in views for image in view.images]
    if images:
        _show_mosaic(log, CAMERAS, [agent_id for agent_id, _ in images], _of_one_size([image for _, image in images]))


def _show_mosaic(log: TickLog, path: tuple[str, ...], agent_ids: Sequence[str], images: Sequence[UInt8]) -> None:
    """Show images of equal size in one image, each with its agent's name and in its agent's colour."""
    import rerun as rr

    grid, corners = mosaic(images)
    log.show(path, rr.Image(grid))
    names = rr.Boxes2D(
        mins=corners,
        sizes=[[each.shape[1], each.shape[0]] for each in images],
        labels=list(agent_ids),
        colors=[rgb_bytes(log.color(agent_id)) for agent_id in agent_ids],
        show_labels=True,
    )
    log.show((*path, "names"), names)


def _of_one_size(images: Sequence[UInt8]) -> list[UInt8]:
    """Return images (H, W, 3) with dark pixels added on the right and below, so that all have the size of the largest."""
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    return [np.pad(image, ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0))) for image in images]


def heat_image(heat: Float32, color: str) -> UInt8:
    """Return a heat map as an RGB image (ny, nx, 3), +y upwards.

    Args:
        heat: (ny, nx) foreground score in [0, 1]; the first row is at the smallest y.
        color: colour of score 0.5; score 0 is the background, score 1 is white.
    """
    share = np.clip(heat[::-1, :, None], 0, 1)
    dark, tint, white = (np.array(rgb_bytes(shade), np.float32) for shade in (BACKGROUND, color, "#ffffff"))
    low, high = np.minimum(2 * share, 1), np.maximum(2 * share - 1, 0)
    image: UInt8 = (dark + low * (tint - dark) + high * (white - tint)).round().astype(np.uint8)
    return image


def mosaic(images: Sequence[UInt8]) -> tuple[UInt8, list[list[int]]]:
    """Arrange images of equal size in a grid that is nearly square.

    Args:
        images: RGB images (ny, nx, 3).

    Returns:
        The grid as one RGB image, and [x, y] in pixels of the upper left corner of every image in it.
    """
    ny, nx = images[0].shape[:2]
    columns = int(np.ceil(np.sqrt(len(images) * ny / nx)))
    rows = -(-len(images) // columns)
    corners = [[GAP_PX + (i % columns) * (nx + GAP_PX), GAP_PX + (i // columns) * (ny + GAP_PX)] for i in range(len(images))]
    grid: UInt8 = np.empty((2 * GAP_PX + rows * (ny + GAP_PX), GAP_PX + columns * (nx + GAP_PX), 3), np.uint8)
    grid[:] = rgb_bytes(BACKGROUND)
    for image, (x, y) in zip(images, corners, strict=True):
        grid[y : y + ny, x : x + nx] = image
    return grid, corners
