"""The settings of a simulation: from a file, from `--set`, from the flags that are used most; written beside its results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from heal.agents.deployment import Deployment, PlannedFault
from heal.agents.options import RunOptions
from heal.config import apply_overrides, build_config, config, load_yaml
from heal.message.codec import Codec


@config
class RunSettings:
    """All that can be said of a simulation besides what runs.

    Attributes:
        run: what takes part, what is sent, what is made of it.
        deployment: where it computes on Ray.
        link: what messages cross, in words; see docs/links.md.
        noise: what agents' poses and clocks are off by, in words.
    """

    run: RunOptions = RunOptions()
    deployment: Deployment = Deployment()
    link: str = "perfect"
    noise: str = "none"


def read_settings(path: Path | None, overrides: list[str]) -> RunSettings:
    """Settings of a YAML file, if there is one, and of `--set key.sub=value`; ConfigError naming every wrong key."""
    values = {} if path is None else load_yaml(path)
    return build_config(RunSettings, apply_overrides(values, overrides), str(path or "--set"))


def with_flags(
    settings: RunSettings, words: Mapping[str, str | None], numbers: Mapping[str, float | None], include_ego: bool, realtime: bool
) -> RunSettings:
    """The settings with what flags have given; None for a flag that was not used.

    Args:
        settings: without them.
        words: of link, noise, codec, late, address and fault.
        numbers: of fields of `RunOptions`, by name.
        include_ego: as the flag.
        realtime: as the flag.
    """
    said = {name: text for name, text in words.items() if text is not None}
    run: dict[str, Any] = {name: value for name, value in numbers.items() if value is not None}
    run |= {"late": said["late"]} if "late" in said else {}
    run |= {"codec": Codec.parse(said["codec"])} if "codec" in said else {}
    run |= {"include_ego": include_ego or settings.run.include_ego, "realtime": realtime or settings.run.realtime}
    deployment: dict[str, Any] = {"address": said["address"]} if "address" in said else {}
    deployment |= {"faults": PlannedFault.parse(said["fault"])} if "fault" in said else {}
    return replace(
        settings,
        run=replace(settings.run, **run),
        deployment=replace(settings.deployment, **deployment),
        link=said.get("link", settings.link),
        noise=said.get("noise", settings.noise),
    )
