"""Heterogeneous collaborative perception: agents with different sensors and networks share features and detect vehicles together.

`load_alliance` opens a trained alliance: a base and the agent types aligned to it (`heal.alliance`). The main entry points are

- `heal.types`: scenes, as the agents sense them, and the sources they come from; the first file to read;
- `heal.agent_model`, `heal.base_model`, `heal.collab_model`: the network of an agent type, of the base, and of both together;
- `heal.message.message`: the message that an agent sends, to bytes and back;
- `heal.detection`: boxes, detections, losses and average precision;
- `heal.training`: the steps that train a base or align a new agent type;
- `heal.agents`, `heal.datasets`: the distributed run, and the readers of data sets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from heal.alliance import Alliance

__version__ = "0.1.0"


def load_alliance(path: Path | str) -> Alliance:
    """Open an alliance folder: its base and its agent types; see `heal.alliance.load_alliance`."""
    # A late import: reading data or the version number must not load the networks.
    from heal.alliance import load_alliance as load

    return load(path)
