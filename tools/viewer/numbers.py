"""A tick as numbers and flat pictures in a live view: heat maps side by side, series over time, and what broke."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from heal.agents.records import AgentView, TickResult, fault_words, is_recovery
from heal.detection.metrics import IOU_THRESHOLDS, FrameMatch, average_precision
from heal.tools.pictures.bev import BACKGROUND, SCORE_COLORS, TRUTH, BevPicture
from heal.tools.viewer.log import TickLog, rgb
from heal.types import Float32, UInt8

HEAT, BYTES, LINK_MS, BOXES, AP, FAULTS = ("heat",), ("bytes",), ("link_ms",), ("boxes",), ("ap",), ("faults",)
AP_IOUS = {0.5: "#6cb6ff", 0.7: "#b79af2"}
AP_TICKS = 50
GAP_PX = 14


class NumbersLog:
    """Series of a run; keeps of past ticks what the average precision of the last ones takes."""

    def __init__(self, log: TickLog) -> None:
        """Name the series that every run has; those of agents are named when an agent is first seen."""
        self._log = log
        self._matches: deque[FrameMatch] = deque(maxlen=AP_TICKS)
        self._known: set[str] = set()
        self._name_series((*BOXES, "detections"), "detections", SCORE_COLORS[1])
        self._name_series((*BOXES, "labelled"), "labelled", TRUTH)
        self._name_series((*BOXES, "found"), "labelled and found", "#ffffff")
        for iou, color in AP_IOUS.items():
            self._name_series((*AP, f"{iou:g}"), f"AP@{iou:g}", color)

    def add(self, result: TickResult, picture: BevPicture) -> None:
        """Show a tick's numbers."""
        self._add_messages(result)
        counts = {"detections": len(result.detections), "labelled": len(result.ground_truth), "found": int(picture.found.sum())}
        for name, count in counts.items():
            self._note((*BOXES, name), count)
        self._matches.append(result.match)
        ap = average_precision(self._matches, IOU_THRESHOLDS).ap
        for iou in AP_IOUS:
            self._note((*AP, f"{iou:g}"), ap[iou])
        self._add_faults(result)

    def _add_messages(self, result: TickResult) -> None:
        for record in result.messages:
            if record.own:
                continue
            if record.agent_id not in self._known:
                self._known.add(record.agent_id)
                for series in (BYTES, LINK_MS):
                    self._name_series((*series, record.agent_id), record.agent_id, self._log.color(record.agent_id))
            self._note((*BYTES, record.agent_id), record.size_bytes / 1e3)
            if record.link_ms is not None:
                self._note((*LINK_MS, record.agent_id), record.link_ms)

    def _add_faults(self, result: TickResult) -> None:
        import rerun as rr

        for fault in result.faults:
            self._log.note(FAULTS, rr.TextLog(fault_words(fault), level="INFO" if is_recovery(fault) else "ERROR"))
        for record in result.messages:
            if record.status == "rejected":
                self._log.note(FAULTS, rr.TextLog(f"message of {record.agent_id} rejected: {record.reason}", level="WARN"))

    def _note(self, path: tuple[str, ...], value: float) -> None:
        import rerun as rr

        self._log.note(path, rr.Scalars(float(value)))

    def _name_series(self, path: tuple[str, ...], name: str, color: str) -> None:
        import rerun as rr

        self._log.fix(path, rr.SeriesLines(names=[name], colors=[rgb(color)], widths=[2.0]))


def log_heat(log: TickLog, views: Sequence[AgentView]) -> None:
    """Show the heat maps of all agents in one picture, each in its agent's colour, with its name."""
    import rerun as rr

    if not views:
        return
    tiles = [heat_tile(view.heat, log.color(view.agent_id)) for view in views]
    image, corners = mosaic(tiles)
    sizes = [[tile.shape[1], tile.shape[0]] for tile in tiles]
    log.put(HEAT, rr.Image(image))
    names = rr.Boxes2D(
        mins=corners,
        sizes=sizes,
        labels=[view.agent_id for view in views],
        colors=[rgb(log.color(view.agent_id)) for view in views],
        show_labels=True,
    )
    log.put((*HEAT, "names"), names)


def heat_tile(heat: Float32, color: str) -> UInt8:
    """(ny, nx, 3) from the background over the agent's colour to white with the heat; +y upwards, as images are shown."""
    warmth = np.clip(heat[::-1, :, None], 0, 1)
    dark, tint, white = (np.array(rgb(shade), np.float32) for shade in (BACKGROUND, color, "#ffffff"))
    low, high = np.minimum(2 * warmth, 1), np.maximum(2 * warmth - 1, 0)
    image: UInt8 = (dark + low * (tint - dark) + high * (white - tint)).round().astype(np.uint8)
    return image


def mosaic(tiles: Sequence[UInt8]) -> tuple[UInt8, list[list[int]]]:
    """Images (ny, nx, 3) of one size in one picture, nearly square, and where each one's left upper corner, [x, y], lies in it."""
    ny, nx = tiles[0].shape[:2]
    columns = int(np.ceil(np.sqrt(len(tiles) * ny / nx)))
    rows = -(-len(tiles) // columns)
    places = [[GAP_PX + (i % columns) * (nx + GAP_PX), GAP_PX + (i // columns) * (ny + GAP_PX)] for i in range(len(tiles))]
    image: UInt8 = np.empty((2 * GAP_PX + rows * (ny + GAP_PX), GAP_PX + columns * (nx + GAP_PX), 3), np.uint8)
    image[:] = rgb(BACKGROUND)
    for tile, (x, y) in zip(tiles, places, strict=True):
        image[y : y + ny, x : x + nx] = tile
    return image, places
