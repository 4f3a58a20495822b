"""Checksums of written files, in the form that `sha256sum --check` reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

CHECKSUMS_NAME = "SHA256SUMS"
_BLOCK = 1 << 20


def checksums_text(files: Iterable[tuple[str, Path]]) -> str:
    """Return a line for each file: its SHA-256, and the name under which it will be looked for.

    Args:
        files: pairs of that name and the path from which the file is read now.
    """
    return "".join(f"{sha256_of(path)}  {name}\n" for name, path in files)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits; OSError if it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
