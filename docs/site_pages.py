"""Everything that MkDocs needs beside the pages in docs/; mkdocs.yml names this file as a hook.

The picture of the rooms, the notebooks as pages, the pages of the root folder, and a copy of the sources for the API pages.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from draw_rooms import picture
from mkdocs.structure.files import File
from nbconvert import MarkdownExporter
from rooms import LINKED, ROOT, with_table

if TYPE_CHECKING:
    from pathlib import Path

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
    for notebook in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        for path, content in _as_page(notebook).items():
            files.append(File.generated(config, f"notebooks/{path}", content=content))
    return files


def _as_page(notebook: Path) -> dict[str, str | bytes]:
    """Return a notebook as Markdown, and the pictures in it, by their paths."""
    files = {"unique_key": "output", "output_files_dir": notebook.stem}
    text, made = MarkdownExporter().from_filename(str(notebook), resources=files)
    return {f"{notebook.stem}.md": text, **made["outputs"]}


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Put the picture and the present table on the page of the rooms; let links to notebooks lead to their pages."""
    if page.file.src_uri != "rooms.md":
        return markdown.replace(".ipynb)", ".md)")
    return with_table(markdown).replace(PICTURE, "[![The rooms and their imports](rooms.svg)](rooms.svg)")
