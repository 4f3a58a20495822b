"""A picture of the rooms and their imports, as SVG.

`python docs/draw_rooms.py [FILE.svg]` refreshes the table in docs/rooms.md, and writes the picture to a file.
The same sources give the same bytes.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from math import log2
from pathlib import Path
from statistics import mean

from rooms import PACKAGES, ROOT, Box, arrows, imports, package_boxes, with_table

COLORS = ("#1b6ca8", "#c2571a", "#2f855a", "#8e44ad", "#b7373f", "#0f8b8d", "#8a6d1d", "#5a6acf", "#a83279", "#557a2b")
GREY = "#8795a1"
BOX_GAP, ROW_GAP, PANEL_GAP, MARGIN, HEADING = 26.0, 58.0, 90.0, 22.0, 30.0


# From boxes to places: rows from top to bottom, in each row an order with few crossings.


@dataclass
class Panel:
    """A package as it is drawn, with its rows of boxes and bends, and the arrows with the points that they pass."""

    package: str
    rows: list[list[Box]]
    ways: dict[tuple[Box, Box], list[Box]]
    counts: Counter[tuple[Box, Box]]
    spans: list[tuple[float, float]] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0


def lay_out(package: str) -> Panel:
    """Place the boxes of a package, with the panel's upper left corner at (0, 0)."""
    box_of = package_boxes(package)
    counts = arrows(box_of)
    every = list(dict.fromkeys(box_of.values()))
    for index, box in enumerate(every):
        box.color = COLORS[index % len(COLORS)]
    _set_rows(every, counts)
    rows: list[list[Box]] = [[box for box in every if box.row == row] for row in range(max(box.row for box in every) + 1)]
    ways = {}
    for start, end in counts:
        bends = [Box(row=row) for row in range(start.row + 1, end.row)]
        for bend in bends:
            rows[bend.row].append(bend)
        ways[start, end] = [start, *bends, end]
    panel = Panel(package, rows, ways, counts)
    _order(panel)
    _place(panel)
    return panel


def _set_rows(every: Sequence[Box], counts: Counter[tuple[Box, Box]]) -> None:
    """Put every box in the lowest row that is above all boxes that it imports; those that import nothing share the last row."""
    height: dict[Box, int] = {}

    def height_of(box: Box) -> int:
        if box not in height:
            height[box] = max((height_of(to) + 1 for start, to in counts if start is box), default=0)
        return height[box]

    top = max(height_of(box) for box in every)
    for box in every:
        box.row = top - height_of(box)


def _neighbours(panel: Panel) -> dict[Box, tuple[list[Box], list[Box]]]:
    """Return what each box or bend is joined to in the rows above and below."""
    joined: dict[Box, tuple[list[Box], list[Box]]] = {box: ([], []) for row in panel.rows for box in row}
    for way in panel.ways.values():
        for upper, lower in pairwise(way):
            joined[upper][1].append(lower)
            joined[lower][0].append(upper)
    return joined


def _order(panel: Panel) -> None:
    """Sort each row by the mean position of its neighbours above or below, in turn; keep the order with the fewest crossings."""
    joined, best = _neighbours(panel), [list(row) for row in panel.rows]
    for sweep in range(24):
        down = sweep % 2 == 0
        for row in panel.rows if down else reversed(panel.rows):
            place = {box: index / max(len(other) - 1, 1) for other in panel.rows for index, box in enumerate(other)}
            row.sort(key=lambda box: mean([place[to] for to in joined[box][0 if down else 1]] or [place[box]]))
        if _crossings(panel.rows, joined) < _crossings(best, joined):
            best = [list(row) for row in panel.rows]
    panel.rows[:] = best


def _crossings(rows: Sequence[Sequence[Box]], joined: Mapping[Box, tuple[list[Box], list[Box]]]) -> int:
    place = {box: index for row in rows for index, box in enumerate(row)}
    count = 0
    for row in rows:
        ends = [(place[box], place[to]) for box in row for to in joined[box][1]]
        count += sum((a - c) * (b - d) < 0 for index, (a, b) in enumerate(ends) for c, d in ends[index + 1 :])
    return count


def _place(panel: Panel) -> None:
    """Set x and y: rows below each other, boxes near the boxes that they are joined to, never overlapping."""
    joined, y = _neighbours(panel), MARGIN + HEADING
    for row in panel.rows:
        tallest = max(box.height for box in row)
        x = 0.0
        for box in row:
            box.x, box.y = x, y + (tallest - box.height) / 2
            x += box.width + BOX_GAP
        panel.spans.append((y, y + tallest))
        y += tallest + ROW_GAP
    for _ in range(60):
        for row in panel.rows:
            wanted = [mean([to.center for to in (*joined[box][0], *joined[box][1])] or [box.center]) for box in row]
            _spread(row, wanted)
    left = min(box.x for row in panel.rows for box in row)
    for row in panel.rows:
        for box in row:
            box.x += MARGIN - left
    panel.width = max(box.x + box.width for row in panel.rows for box in row) + MARGIN
    panel.height = y - ROW_GAP + MARGIN


def _spread(row: Sequence[Box], wanted: Sequence[float]) -> None:
    """Move the boxes of a row halfway to the wanted centers, then apart until none overlaps another."""
    forward, backward = [], []
    for box, center in zip(row, wanted, strict=True):
        box.x += (center - box.center) / 2
    edge = -1e9
    for box in row:
        forward.append(max(box.x, edge))
        edge = forward[-1] + box.width + BOX_GAP
    edge = 1e9
    for box in reversed(row):
        backward.append(min(box.x, edge - box.width - BOX_GAP))
        edge = backward[-1]
    # The mean of two arrangements without overlap has none either.
    for box, left, right in zip(row, forward, reversed(backward), strict=True):
        box.x = (left + right) / 2


# From places to SVG.


def picture() -> str:
    """Return the picture as SVG: a panel for each package, the arrows between its boxes, and the imports between packages."""
    panels = {package: lay_out(package) for package in PACKAGES}
    tools, agents, datasets, heal = panels.values()
    width = max(tools.width, agents.width + PANEL_GAP + datasets.width, heal.width) + 2 * MARGIN
    middle = MARGIN + tools.height + PANEL_GAP
    bottom = middle + max(agents.height, datasets.height) + PANEL_GAP
    side = (width - agents.width - PANEL_GAP - datasets.width) / 2
    corners = {
        "tools": ((width - tools.width) / 2, MARGIN),
        "agents": (side, middle),
        "datasets": (side + agents.width + PANEL_GAP, middle),
        "heal": ((width - heal.width) / 2, bottom),
    }
    parts = [_head(width, bottom + heal.height + MARGIN), *_package_arrows(panels, corners)]
    for package, (x, y) in corners.items():
        parts += [f'<g transform="translate({x:.1f} {y:.1f})">', *_panel(panels[package]), "</g>"]
    return "\n".join([*parts, "</svg>\n"])


def _head(width: float, height: float) -> str:
    heads = "".join(
        f'<marker id="head-{color[1:]}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" markerHeight="9" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.5 8 4 0 7.5z" fill="{color}"/></marker>'
        for color in COLORS
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" '
        'font-family="Helvetica, Arial, DejaVu Sans, sans-serif" role="img" aria-label="The rooms and their imports">\n'
        f'<defs>{heads}</defs>\n<rect width="100%" height="100%" fill="#ffffff"/>'
    )


def _package_arrows(panels: Mapping[str, Panel], corners: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    """Draw one wide arrow for all imports from a package to another, with their number."""
    counts = Counter((name.split("/")[0], to.split("/")[0]) for name, to in imports().elements())
    # The arrow from tools to heal passes between the two panels in the middle.
    lane = (corners["agents"][0] + panels["agents"].width + corners["datasets"][0]) / 2
    for start, end in (("tools", "agents"), ("tools", "datasets"), ("tools", "heal"), ("agents", "heal"), ("datasets", "heal")):
        left = max(corners[start][0], corners[end][0])
        right = min(corners[start][0] + panels[start].width, corners[end][0] + panels[end].width)
        x = lane if (start, end) == ("tools", "heal") else (left + right) / 2
        top, bottom = corners[start][1] + panels[start].height, corners[end][1]
        half = 2 + counts[start, end] / 30
        yield (
            f'<path d="M{x - half:.1f} {top:.1f}h{2 * half:.1f}V{bottom - 16:.1f}h8L{x:.1f} {bottom:.1f}L{x - half - 8:.1f} '
            f'{bottom - 16:.1f}h8z" fill="{GREY}"/>'
        )
        note = top + PANEL_GAP / 2 + 4
        yield f'<text x="{x + half + 12:.1f}" y="{note:.1f}" font-size="14" fill="#30404f">{counts[start, end]} imports</text>'


def _panel(panel: Panel) -> Iterator[str]:
    yield f'<rect width="{panel.width:.1f}" height="{panel.height:.1f}" rx="10" fill="#f5f7f9" stroke="#c4ccd4"/>'
    yield f'<text x="{MARGIN}" y="{MARGIN + 9}" font-size="19" font-weight="bold" fill="#30404f">{panel.package}/</text>'
    ends = _ends(panel)
    yield from (_arrow(pair, panel, ends) for pair in panel.ways)
    for row in panel.rows:
        yield from (_box(box) for box in row if box.title)


def _ends(panel: Panel) -> dict[tuple[Box, Box, bool], float]:
    """Return the x at which each arrow leaves (True) and reaches (False) its boxes: arrows of one box do not share a point."""
    places: dict[tuple[Box, Box, bool], float] = {}
    for box in (box for row in panel.rows for box in row if box.title):
        for leaves in (True, False):
            pairs = [pair for pair in panel.ways if pair[0 if leaves else 1] is box]
            pairs.sort(key=lambda pair: panel.ways[pair][1 if leaves else -2].center)
            step = min(18.0, (box.width - 24) / max(len(pairs), 1))
            for index, pair in enumerate(pairs):
                places[pair[0], pair[1], leaves] = box.center + (index - (len(pairs) - 1) / 2) * step
    return places


def _arrow(pair: tuple[Box, Box], panel: Panel, ends: Mapping[tuple[Box, Box, bool], float]) -> str:
    """Draw an arrow from the bottom of a box, straight through the rows that it passes, to the top of another box."""
    start, end = pair
    x, y = ends[start, end, True], start.y + start.height
    path = [f"M{x:.1f} {y:.1f}"]
    for point in panel.ways[pair][1:]:
        top, bottom = (point.y, point.y) if point is end else panel.spans[point.row]
        x_next = ends[start, end, False] if point is end else point.center
        turn = (top - y) * 0.5
        path.append(f"C{x:.1f} {y + turn:.1f} {x_next:.1f} {top - turn:.1f} {x_next:.1f} {top:.1f}")
        if bottom > top:
            path.append(f"V{bottom:.1f}")
        x, y = x_next, bottom
    width = 1.1 + 0.5 * log2(panel.counts[pair])
    color = start.color
    return (
        f'<path d="{"".join(path)}" fill="none" stroke="{color}" stroke-opacity="0.8" stroke-width="{width:.1f}" '
        f'marker-end="url(#head-{color[1:]})"/>'
    )


def _box(box: Box) -> str:
    x, texts = box.center, []
    for index, note in enumerate(box.notes):
        texts.append(f'<text x="{x:.1f}" y="{box.y + 37 + 15 * index:.1f}" font-size="11.5" fill="#51606e">{escape(note)}</text>')
    return (
        f'<g text-anchor="middle"><rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="6" '
        f'fill="#ffffff" stroke="{box.color}" stroke-width="1.8"/><text x="{x:.1f}" y="{box.y + 20:.1f}" font-size="14" '
        f'font-weight="bold" fill="#1d2833">{escape(box.title)}</text>{"".join(texts)}</g>'
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(picture(), encoding="utf-8")
    page = ROOT / "docs" / "rooms.md"
    page.write_text(with_table(page.read_text(encoding="utf-8")), encoding="utf-8")
