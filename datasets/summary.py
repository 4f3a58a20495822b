"""What a reader found when it opened a data set, and what it left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DatasetSummary:
    """What was found and what was skipped.

    Attributes:
        layout: "OPV2V" or "DAIR-V2X-C".
        root: the folder.
        split: its name on disk, such as "validate".
        scenarios: number of recordings.
        frames: number of scenes.
        agents: number of agents, each counted once per recording.
        skipped: pairs of what was left out and why.
    """

    layout: str
    root: Path
    split: str
    scenarios: int
    frames: int
    agents: int
    skipped: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """One line, and one more for everything that was skipped."""
        lines = [
            f"{self.layout} {self.root} ({self.split}): {self.frames} frames in {self.scenarios} scenarios, {self.agents} agents"
        ]
        return "\n".join(lines + [f"  skipped {what}: {why}" for what, why in self.skipped])
