"""Where the real recordings lie that some tests read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def real_root() -> Path:
    """Return $HEAL_REAL_DATA, by default ../shared/real, whether it exists or not."""
    return Path(os.environ.get("HEAL_REAL_DATA", REPOSITORY.parent / "shared" / "real"))


def real_data(*parts: str) -> Path:
    """A file or folder of the real data in `real_root()`; skips the test where it is missing."""
    path = real_root().joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no real data at {path}; set HEAL_REAL_DATA to the folder that holds {parts[0] if parts else 'it'}")
    return path
