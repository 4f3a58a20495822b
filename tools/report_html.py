"""HTML from pieces: text is escaped when it is put into an element, so nothing that came over a link becomes part of the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def markup(text: str) -> Markup:
    """Text as HTML; what is HTML already stays as it is."""
    return text if isinstance(text, Markup) else Markup(escape(text))


def join(parts: Iterable[str]) -> Markup:
    """Pieces one after the other."""
    return Markup("".join(markup(part) for part in parts))


def element(name: str, *children: str, **attributes: object) -> Markup:
    """An element of HTML or SVG.

    Args:
        name: of its tag.
        children: text, which is escaped, or HTML from here.
        attributes: `class_` for class, `view_box` for view-box; None is left out.
    """
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items() if value is not None
    )
    return Markup(f"<{name}{words}>{join(children)}</{name}>")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int = 1) -> Markup:
    """A table that scrolls sideways on narrow screens; columns from `numbers_from` on hold numbers."""

    def row(kind: str, cells: Sequence[str]) -> Markup:
        return element("tr", *(element(kind, cell, class_="number" if i >= numbers_from else None) for i, cell in enumerate(cells)))

    body = element("tbody", *(row("td", cells) for cells in rows))
    return element("div", element("table", element("thead", row("th", head)), body), class_="scroll")


def section(title: str, words: str, *content: str) -> Markup:
    """A part of the page: its title, what there is to see in one sentence, and that."""
    return element("section", element("h2", title), element("p", words, class_="lead"), *content)
