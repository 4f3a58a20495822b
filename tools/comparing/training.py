"""One training of a comparison, in a process of its own: it is resumed where it stopped, and leaves a folder with an alliance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heal.atomic_write import replacing
from heal.config import save_config
from heal.tools.comparing.data import DataFolder
from heal.tools.comparing.plan import Training
from heal.tools.shared.output import write_json
from heal.tools.shared.setting_files import laid_over
from heal.tools.training.step_log import last_row

DONE, SETTINGS, ALLIANCE = "done.json", "settings.yaml", "alliance"


@dataclass(frozen=True)
class TrainingTask:
    """A training in its folder.

    Attributes:
        training: what is trained.
        folder: its folder.
        base: folder of the training of the base that the type joins; None where a base is trained.
        teacher: folder of the training whose base teaches this one; None for none.
        data: the scenes.
        device: device of the networks.
    """

    training: Training
    folder: Path
    base: Path | None
    teacher: Path | None
    data: DataFolder
    device: str

    @property
    def alliance(self) -> Path:
        """The folder of what is trained: a base with its types, or a copy of a base with the type that has joined it."""
        return self.folder / ALLIANCE

    @property
    def run_folder(self) -> Path:
        """The folder of checkpoints and logs."""
        kind = self.training.agent_type
        return self.folder / f"{ALLIANCE}-{kind}" if kind else self.folder

    @property
    def is_done(self) -> bool:
        """Whether the training has come to its end."""
        return (self.folder / DONE).exists()

    def share_done(self) -> float:
        """Return which share of the epochs is done, by the log of the training."""
        row = last_row(self.run_folder)
        return 0.0 if row is None else row["epoch"] / self.training.epochs

    def run(self) -> None:
        """Train to the end, from the last checkpoint on if there is one."""
        from heal.tools import train

        common: dict[str, Any] = {"config": str(self._write_settings()), "device": self.device, "threads": 1}
        common |= {"split": self.data.train, "val_split": self.data.val}
        if self.base is None:
            train.base(self.data.root, self.folder, **common)
        else:
            file = self.folder / "type" / f"{self.training.agent_type}.yaml"
            _write(self.training.settings["agents"][self.training.agent_type], file)
            train.agent(str(file), self.base / ALLIANCE, self.data.root, self.alliance, **common)
        write_json(self.folder / DONE, {"title": self.training.title, "seconds": self._seconds()})

    def _write_settings(self) -> Path:
        """Write the settings as a file for the command that trains."""
        # No run of a comparison defends itself.
        settings = laid_over(self.training.settings, {"training": {"recorded_scenes": 0}})
        if self.base is not None:
            settings.pop("agents")
        if self.teacher is not None:
            settings = laid_over(settings, {"training": {"teacher": str(self.teacher / ALLIANCE)}})
        _write(settings, self.folder / SETTINGS)
        return self.folder / SETTINGS

    def _seconds(self) -> float:
        from heal.alliance import load_alliance

        alliance, kind = load_alliance(self.alliance), self.training.agent_type
        return (alliance.agent_card(kind) if kind else alliance.card).training.seconds


def seconds_of(folder: Path) -> float:
    """Return how long the finished training in a folder took."""
    return float(json.loads((folder / DONE).read_text(encoding="utf-8"))["seconds"])


def _write(values: Mapping[str, Any], path: Path) -> None:
    with replacing(path) as temporary:
        save_config(values, temporary)
