"""Heterogeneous collaborative perception: agents with different sensors share features, a fusion node finds the vehicles."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from heal.alliance import Alliance

__version__ = "0.1.0"


def load_alliance(path: Path | str) -> Alliance:
    """Open an alliance folder: its base and its agent types; see `heal.alliance`."""
    # Imported here, so that reading data or a version number does not load the networks.
    from heal.alliance import load_alliance as load

    return load(path)
