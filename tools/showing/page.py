"""Scenes as one HTML file that loads nothing from elsewhere: a picture of each, to step through, and what does not fit in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from heal.atomic_write import write_text
from heal.errors import UserError
from heal.tools.report.colors import COLORS
from heal.tools.report.page import image_address
from heal.tools.report.template import page_template
from heal.tools.showing.contents import ShownScene
from heal.types import UInt8

# By this mark in its head a page is known; no other file is replaced.
GENERATOR = "heal show"
_HEAD_BYTES = 400


@dataclass(frozen=True)
class PageScene:
    """A scene on a page.

    Attributes:
        number: its number in the data set.
        scene_id: its name.
        caption: time, frame, numbers of agents and boxes.
        warnings: what does not fit.
        picture: the picture as a `data:` address.
    """

    number: int
    scene_id: str
    caption: str
    warnings: tuple[str, ...]
    picture: str

    @staticmethod
    def of(number: int, shown: ShownScene, image: UInt8) -> PageScene:
        """Make the entry of a scene of its picture (H, W, 3) RGB."""
        from PIL import Image

        return PageScene(number, shown.scene_id, shown.caption, shown.warnings, image_address(Image.fromarray(image)))


def write_scenes_page(path: Path, title: str, scenes: Sequence[PageScene], made_by: str) -> None:
    """Write a page of scenes, whole; `made_by` says what made it."""
    write_text(path, render_scenes_page(title, scenes, made_by))


def render_scenes_page(title: str, scenes: Sequence[PageScene], made_by: str) -> str:
    """Return the HTML of a page of scenes; the template escapes every text."""
    template = page_template("scenes.html.j2", "heal.tools.showing")
    return template.render(title=title, scenes=scenes, made_by=made_by, generator=GENERATOR, colors=COLORS)


def require_replaceable(path: Path) -> None:
    """Check that no file but an earlier page of scenes would be replaced.

    Raises:
        UserError: another file, or a folder, is there.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder; --html takes a file, such as {path / 'show.html'}, and --out a folder for pictures")
    if path.exists():
        with path.open("rb") as file:
            if GENERATOR.encode() not in file.read(_HEAD_BYTES):
                raise UserError(f"{path}: is there already, and is no page of `heal show`; give another --html")
