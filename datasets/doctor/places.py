"""Archives of a data set: those that are missing, packed or in another place, and links that put everything in its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from heal.datasets.doctor.finding import Finding

ARCHIVE = re.compile(
    r".*\.(zip|7z|rar|tar|tgz|tar\.\w+|z\d\d|(zip|7z)\.\d+)$|.*(LiDAR|depth|additional|velodyne|image)\S*part-?\w\w$", re.I
)


@dataclass(frozen=True)
class Places:
    """What is known of the archives of a data set.

    Attributes:
        findings: archives that are missing, packed, or in another place.
        links: path below a new folder -> the folder or file in the data that a link there names; empty if nothing is out of place.
    """

    findings: tuple[Finding, ...] = ()
    links: Mapping[Path, Path] = field(default_factory=dict)


def packed_archives(folders: Sequence[Path]) -> Iterator[Finding]:
    """Yield a finding for every archive, or part of one, in some folders."""
    for folder in dict.fromkeys(folders):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.is_file() and ARCHIVE.fullmatch(path.name):
                yield Finding("archive-packed", path, "unpacked folders", f"{path.stat().st_size / 1e9:.1f} GB in one file")


def folders_below(root: Path, depth: int) -> Iterator[Path]:
    """Yield the folders below `root`, the nearest first, down to some depth; hidden ones, links and closed ones are left out."""
    level = [root.absolute()]
    for _ in range(depth):
        level = [path for folder in level for path in _open_folders(folder)]
        yield from level


def _open_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder; none if it may not be listed."""
    try:
        return sorted(
            path for path in folder.iterdir() if path.is_dir() and not path.is_symlink() and not path.name.startswith(".")
        )
    except OSError:
        return []


def children_linked(folder: Path, place: Path) -> dict[Path, Path]:
    """Return links for everything in a folder, at `place`."""
    return {place / path.name: path for path in sorted(folder.iterdir())}
