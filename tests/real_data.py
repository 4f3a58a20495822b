"""Where the real recordings lie that some tests read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def real_data(*parts: str) -> Path:
    """A file or folder of the real data in $HEAL_REAL_DATA, by default ../shared/real; skips the test where it is missing."""
    root = Path(os.environ.get("HEAL_REAL_DATA", REPOSITORY.parent / "shared" / "real"))
    path = root.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no real data at {path}; set HEAL_REAL_DATA to the folder that holds {parts[0] if parts else 'it'}")
    return path
