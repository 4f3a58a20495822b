"""Everything that MkDocs needs beside the pages in docs/; mkdocs.yml names this file as a hook.

The picture of the rooms, the pages of the root folder, and a copy of the sources for the API pages.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from draw_rooms import picture
from mkdocs.structure.files import File
from rooms import LINKED, ROOT, with_table

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

SOURCES = ROOT / "build" / "docs"
ROOT_PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
PICTURE = "<!-- the picture, on the built site -->"


def on_startup(**_: object) -> None:
    """Copy the sources to where mkdocstrings reads them, with a package file in the folders that are links.

    The reader of the docstrings passes over packages inside a package that have no such file.
    """
    shutil.rmtree(SOURCES, ignore_errors=True)
    shutil.copytree(ROOT / "heal", SOURCES / "heal", ignore=shutil.ignore_patterns("__pycache__", "configs"))
    for name in LINKED:
        if name != "configs":
            (SOURCES / "heal" / name / "__init__.py").touch()


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the picture of the rooms and the pages of the root folder to the site."""
    files.append(File.generated(config, "rooms.svg", content=picture()))
    for name, page in ROOT_PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text.replace("](docs/", "](")))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Put the picture and the present table on the page of the rooms."""
    if page.file.src_uri != "rooms.md":
        return markdown
    return with_table(markdown).replace(PICTURE, "[![The rooms and their imports](rooms.svg)](rooms.svg)")
