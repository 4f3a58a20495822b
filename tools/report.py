"""A run as one HTML file that needs nothing else: how well, at what cost, what broke; to be kept beside its numbers."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heal.metrics import AP_RULE
from heal.tools.report_history import ReportData
from heal.tools.report_html import Markup, element, join, section, table
from heal.tools.report_parts import accuracy, faults, headline, latencies, messages, traffic
from heal.tools.report_style import STYLE
from heal.tools.run_log import RunLog

PICTURE_PX = 1400


@dataclass(frozen=True)
class Report:
    """All that a report is made of.

    Attributes:
        title: such as the source's name.
        log: the run's numbers.
        data: its ticks.
        settings: the run's own, by name; may hold further ones by name.
        picture: of the last tick, an image file; left out where there is none.
    """

    title: str
    log: RunLog
    data: ReportData
    settings: Mapping[str, Any]
    picture: Path | None = None


def write_report(path: Path, report: Report) -> None:
    """Write a report as HTML."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(report), encoding="utf-8")


def page(report: Report) -> str:
    """A report's HTML."""
    log, data = report.log, report.data
    parts = [headline(report.title, log, data)]
    if data.rows:
        parts += [accuracy(data), messages(data), traffic(data), latencies(log), faults(data)]
    parts += [picture(report.picture), settings(report.settings)]
    rule = f"AP: {AP_RULE}; range {', '.join(f'{value:g}' for value in log.score.range_m)} m in the ego's frame."
    body = element("main", *parts, element("footer", rule))
    head = element(
        "head",
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        element("title", report.title),
        element("style", Markup(STYLE)),
    )
    return "<!doctype html>\n" + element("html", head, element("body", body), lang="en")


def picture(path: Path | None) -> Markup:
    """The last tick, as it is drawn from above, within the page."""
    if path is None or not path.is_file():
        return Markup("")
    image = element("img", src=f"data:image/webp;base64,{_webp(path)}", alt="the last tick seen from above")
    return section("The last tick", "Seen from above, in the ego's frame.", image)


def _webp(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image.thumbnail((PICTURE_PX, PICTURE_PX))
    buffer = io.BytesIO()
    image.save(buffer, "webp", quality=82)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def settings(values: Mapping[str, Any]) -> Markup:
    """The run's settings, one in a line."""
    rows = [(name, str(value)) for name, value in flatten(values)]
    return section("Settings", "What was run.", table(("setting", "value"), rows, numbers_from=2)) if rows else join([])


def flatten(values: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Settings within settings as one list; their names joined by dots."""
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += flatten(value, f"{above}{name}.")
        else:
            rows.append((f"{above}{name}", value))
    return rows
