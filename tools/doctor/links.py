"""`heal doctor --fix`: a new folder of links in which every archive of a data set is in its place; the data stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from heal.atomic_write import folder_made_whole
from heal.errors import UserError


def make_links(folder: Path, links: Mapping[Path, Path]) -> None:
    """Make a folder of links; to undo it, remove the folder.

    Args:
        folder: the new folder.
        links: path below `folder` -> the file or folder in the data that the link there names.

    Raises:
        UserError: the folder exists and is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"--fix {folder}: expected a new or empty folder for links, it holds files; choose another one")
    with folder_made_whole(folder) as temporary:
        for place, target in sorted(links.items()):
            link = temporary / place
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target.absolute(), target_is_directory=target.is_dir())
