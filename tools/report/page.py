"""A run as one HTML file that loads nothing from elsewhere: accuracy, bytes, times, faults and settings, for the run's folder."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heal.atomic_write import write_text
from heal.config import to_plain
from heal.detection.metrics import AP_RULE
from heal.tools.report.colors import COLORS
from heal.tools.report.history import ReportData
from heal.tools.report.sections import (
    STATUS_COLORS,
    ApRow,
    Faults,
    KeyNumber,
    Latency,
    Messages,
    OverTime,
    Traffic,
    ap_rows,
    faults,
    guard_line,
    headline,
    latency,
    messages,
    over_time,
    traffic,
)
from heal.tools.report.template import page_template
from heal.tools.shared.made_by import MadeBy
from heal.tools.shared.run_log import RunLog

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURE_PX = 1400


@dataclass(frozen=True)
class Report:
    """The input of a report.

    Attributes:
        title: heading of the page, such as the name of the source.
        made_by: what made the run.
        log: counts, times and score of the run.
        data: the rows of the run's ticks.
        settings: values of the run by name; a value may be a mapping of further settings.
        picture: image file of the last tick; a file that does not exist is left out, as is None.
    """

    title: str
    made_by: MadeBy
    log: RunLog
    data: ReportData
    settings: Mapping[str, Any]
    picture: Path | None = None


@dataclass(frozen=True)
class TickSections:
    """The sections that need at least one tick; `traffic` is None if no message crossed a link."""

    over_time: OverTime
    messages: Messages
    traffic: Traffic | None
    latency: Latency
    faults: Faults


@dataclass(frozen=True)
class Page:
    """What the template shows, from top to bottom.

    Attributes:
        title: heading of the page.
        summary: number of ticks, agents and detections in one line.
        headline: the key numbers.
        ap: average precision at every IoU threshold.
        guard: what became of the ego's confident boxes, in one line; empty if it has no map of its own.
        sections: the sections that need at least one tick; None for a run without ticks.
        picture: the last tick as a `data:` address; None without a picture.
        made_by: (name, value) of what made the run.
        settings: (name, value) of every setting.
        rule: how AP is computed.
    """

    title: str
    summary: str
    headline: tuple[KeyNumber, ...]
    ap: tuple[ApRow, ...]
    guard: str
    sections: TickSections | None
    picture: str | None
    made_by: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]
    rule: str


def write_report(path: Path, report: Report) -> None:
    """Write a report as an HTML file, whole; makes the folder if there is none."""
    write_text(path, render_page(page_of(report)))


def render_page(page: Page) -> str:
    """Return the HTML of a page; the template escapes every text, so an agent's name never becomes HTML."""
    return page_template("report.html.j2").render(page=page, colors=COLORS, status_colors=STATUS_COLORS)


def page_of(report: Report) -> Page:
    """Return what the page of a report shows."""
    log, data = report.log, report.data
    result = log.score.results()
    range_m = ", ".join(f"{value:g}" for value in log.score.range_m)
    dropped = f" ({log.clock.dropped} more dropped by the wall clock)" if log.clock.dropped else ""
    return Page(
        title=report.title,
        summary=f"{result.frames} ticks{dropped}, up to {log.score.agents} agents, {result.detections} detections",
        headline=headline(log, data),
        ap=ap_rows(log),
        guard=guard_line(log),
        sections=_tick_sections(log, data) if data.rows else None,
        picture=_picture_address(report.picture),
        made_by=shown_rows(to_plain(report.made_by)),
        settings=shown_rows(report.settings),
        rule=f"AP: {AP_RULE}; range {range_m} m in the ego's frame.",
    )


def _tick_sections(log: RunLog, data: ReportData) -> TickSections:
    return TickSections(over_time(data), messages(data), traffic(data), latency(log), faults(data))


def _picture_address(path: Path | None) -> str | None:
    """Return an image file as a `data:` address in WebP, at most `PICTURE_PX` wide and high; None if there is no file."""
    if path is None or not path.is_file():
        return None
    from PIL import Image

    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image.thumbnail((PICTURE_PX, PICTURE_PX))
    return image_address(image)


def image_address(image: Image) -> str:
    """Return a PIL image as a `data:` address in WebP, so that a page needs no other file."""
    buffer = io.BytesIO()
    image.save(buffer, "webp", quality=82)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def shown_rows(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return nested settings as rows of a table: names with dots, and texts for readers."""
    return tuple((name, shown_value(value)) for name, value in flat_settings(values))


def shown_value(value: Any) -> str:
    """Return a setting as text for readers: a missing or empty value is "none", a switch is "on" or "off"."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mapping):
        value = [f"{name} {shown_value(part)}" for name, part in value.items()]
    if isinstance(value, (list, tuple, frozenset)):
        value = ", ".join(shown_value(part) for part in value)
    return "none" if value is None or value == "" else str(value)


def flat_settings(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested settings as one list of (name, value), with the names of the levels joined by dots."""
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += flat_settings(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", value))
    return rows
