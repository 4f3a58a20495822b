"""Which of the shipped configurations a data set has the sensor data for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from pydantic import TypeAdapter

from heal.datasets.doctor.checkup import SplitReport
from heal.tools.shared.paths import CONFIGS
from heal.tools.shared.setting_files import load_settings
from heal.training.batches import sensors_of
from heal.training.config import TrainingConfig
from heal.types import BEAMS, SensorChoice

FOLDERS = ("recipes", "demo")


@dataclass(frozen=True)
class ConfigurationReport:
    """One configuration.

    Attributes:
        name: its file, as `--config` takes it.
        reason: what the data set lacks; empty if the configuration can run.
    """

    name: str
    reason: str


def check_configurations(splits: Sequence[SplitReport]) -> list[ConfigurationReport]:
    """Judge the configurations that name their agent types by the split for training, or by the first one."""
    split = next((each for each in splits if each.source.summary.split.startswith("train")), splits[0])
    usable: dict[SensorChoice, int] = {}
    return [ConfigurationReport(name, _lacks(settings, split, usable)) for name, settings in _shipped()]


@cache
def _shipped() -> tuple[tuple[str, TrainingConfig], ...]:
    """Return the shipped configurations of trainings with agent types, by their names."""
    paths = (path for folder in FOLDERS for path in sorted((CONFIGS / folder).rglob("*.yaml")))
    trainings = [path for path in paths if not {"agents", "alliance"} & set(path.relative_to(CONFIGS).parts)]
    loaded = [(path, load_settings(path)) for path in trainings]
    adapter = TypeAdapter(TrainingConfig)  # once: it takes longer to make than all configurations
    return tuple(
        (path.relative_to(CONFIGS).as_posix(), adapter.validate_python(values)) for path, values in loaded if values.get("agents")
    )


def _lacks(settings: TrainingConfig, split: SplitReport, usable: dict[SensorChoice, int]) -> str:
    """Say what a split lacks for a configuration; an empty text if nothing. `usable` remembers numbers of scenes."""
    if settings.training.ground_truth == "merged" and split.source.summary.layout != "DAIR-V2X-C":
        return "ground truth 'merged' is for DAIR-V2X-C"
    for name, choice in sensors_of(settings).items():
        named = getattr(settings.agents[name].encoder, "cameras", ())
        if choice.cameras and (absent := sorted(set(named) - split.cameras)):
            return f"no {', '.join(absent)} for {name}"
        if missing := _not_installed(choice, split):
            return f"no {missing} for {name}"
        if choice not in usable:
            usable[choice] = split.usable(choice)
        if usable[choice] < settings.training.batch_scenes:
            return f"{usable[choice]} scenes with all data for {name}, a batch takes {settings.training.batch_scenes}"
    return ""


def _not_installed(choice: SensorChoice, split: SplitReport) -> str:
    """Return the sensor data of a choice that a split does not have; an empty text if it has all."""
    there = split.installed
    if choice.lidar and choice.beams != BEAMS[-1] and split.source.summary.layout == "OPV2V" and choice.beams not in there.thinned:
        return f"clouds of {choice.beams} lines"
    for wanted, found, name in (
        (choice.lidar, there.lidar, "clouds"),
        (choice.cameras, there.cameras, "camera images"),
        (choice.depth, there.depth, "depth images"),
    ):
        if wanted and not found:
            return name
    return ""
