"""The settings of a simulation: from a file, from `--set`, and from the most used options; written beside the results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from heal.agents.deployment import Deployment, PlannedFault
from heal.agents.door.options import DoorOptions
from heal.agents.joining import Join
from heal.agents.options import RunOptions
from heal.config import ConfigError, apply_overrides, build_config, config, load_yaml
from heal.device import choose_device
from heal.message.codec import Codec
from heal.tools.shared.lines import parse_lines
from heal.tools.shared.made_by import MADE_BY

# Options that give something that is no setting, and sections that an option writes as a text: option, section, an example in full.
_OPTIONS = ("ego_type", "fault", "ground_truth", "out", "preset", "runtime", "seed", "source", "ticks", "types")
_SECTIONS = {
    "codec": ("--codec", "run.codec", "its keys, such as run.codec.values=int8"),
    "faults": ("--fault", "deployment.faults", "a list such as deployment.faults=[{kind: crash, who: node, tick: 5}]"),
}


@config
class RunSettings:
    """Everything that can be set about a simulation except its alliance, scenes and agent types.

    Attributes:
        run: which agents take part, the messages they send, and the fusion.
        deployment: placement of the actors on Ray.
        link: description of the links, as for `--link`; see docs/links.md.
        noise: description of the errors of poses and clocks, as for `--noise`; see docs/links.md.
    """

    run: RunOptions = RunOptions()
    deployment: Deployment = Deployment()
    link: str = "perfect"
    noise: str = "none"


# Options of a command line that are fields of `RunOptions` of the same name.
_RUN_OPTIONS = ("late", "agents", "deadline_ms", "comm_range_m", "include_ego", "realtime", "rate_hz")
# The same, of options that are on, off (False) or not given (None).
_RUN_SWITCHES = ("use_z",)


def read_settings(path: Path | None, overrides: list[str]) -> RunSettings:
    """Read settings from a YAML file, if one is given, and apply the `key.sub=value` overrides of `--set`.

    Raises:
        ConfigError: a key or value is wrong; the message names each of them.
    """
    for text in overrides:
        _refuse_option(text)
    values = {} if path is None else load_yaml(path)
    values.pop(MADE_BY, None)  # of a run's own record
    return build_config(RunSettings, apply_overrides(values, overrides), str(path or "--set"))


def with_own_device(settings: RunSettings) -> RunSettings:
    """Return the settings with the device that this machine has for "auto"; on a cluster each machine decides that for itself.

    Raises:
        UserError: this machine does not have the device.
    """
    deployment = settings.deployment
    if deployment.address is not None:
        return settings
    return replace(settings, deployment=replace(deployment, device=str(choose_device(deployment.device))))


def _refuse_option(text: str) -> None:
    """Raise ConfigError, with the option to use, for a `key=value` of `--set` that only an option can give."""
    key, _, value = text.partition("=")
    name = key.rpartition(".")[2]
    if name in _SECTIONS and not isinstance(apply_overrides({}, [f"value={value}"])["value"], (Mapping, list)):
        option, section, example = _SECTIONS[name]
        raise ConfigError(f"--set {text}: {section} is a section; give {option} {value} to `heal simulate`, or set {example}")
    if name in _OPTIONS:
        raise ConfigError(f"--set {text}: {name} is not a setting but an option; give --{name.replace('_', '-')} {value} instead")


def with_options(settings: RunSettings, options: Mapping[str, Any]) -> RunSettings:
    """Return the settings changed by the options of a command line.

    Args:
        settings: from `read_settings`.
        options: values of all options of the command by name. None stands for options that were not used, and False too but for
            those of `_RUN_SWITCHES`; options that are not part of the settings have no effect.
    """
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    run: dict[str, Any] = {name: given[name] for name in _RUN_OPTIONS if name in given}
    run |= {name: options[name] for name in _RUN_SWITCHES if options.get(name) is not None}
    run |= {"codec": Codec.parse(given["codec"])} if "codec" in given else {}
    run |= {"realtime": True} if "rate_hz" in given else {}
    run |= {"lidar_lines": parse_lines(given["lines"])} if "lines" in given else {}
    run |= {"joins": Join.parse(given["join"])} if "join" in given else {}
    deployment: dict[str, Any] = {"address": given["address"]} if "address" in given else {}
    deployment |= {"device": given["device"]} if "device" in given else {}
    deployment |= {"door": replace(settings.deployment.door or DoorOptions(), listen=given["door"])} if "door" in given else {}
    deployment |= {"faults": PlannedFault.parse(given["fault"])} if "fault" in given else {}
    return replace(
        settings,
        run=replace(settings.run, **run),
        deployment=replace(settings.deployment, **deployment),
        link=given.get("link", settings.link),
        noise=given.get("noise", settings.noise),
    )
