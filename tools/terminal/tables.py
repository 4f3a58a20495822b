"""Tables for a terminal that may be narrow: no heading and no value is cut off."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.table import Table


def narrow_table(headings: Iterable[str], title: str | None = None) -> Table:
    """Make a table without vertical lines whose cells continue in the next line where a terminal is too narrow for them.

    Args:
        headings: of the columns; a heading breaks at its spaces and line ends.
        title: above the table.
    """
    table = Table(title=title, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    for heading in headings:
        table.add_column(heading, overflow="fold", min_width=max(map(len, heading.split())))
    return table
