"""What made an output: command, version, alliance, scenes, date and machine; written beside the results, and read again."""

from __future__ import annotations

import hashlib
import platform
import shlex
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import typer

import heal
from heal.agents.process import usable_cores
from heal.alliance import Alliance
from heal.config import build_config, config, load_yaml
from heal.errors import UserError
from heal.plugins import plugins_in_use
from heal.storage.compressors import compressor_cards
from heal.storage.parts import hash_content
from heal.tools.shared.sources import source_name, split_name

RECORD_NAME = "run.yaml"
MADE_BY = "made_by"  # the key in run.yaml, metrics.json and sweep.json
# Options that change no result.
_LEFT_OUT = frozenset({"overwrite"})
_PLUGIN = "--plugin"  # an option of `heal` itself, before the name of the command
_HASH_LETTERS, _MARGIN_LETTERS = 12, 140


@config
class AllianceRecord:
    """An alliance: its folder, and a hash of its base, its compressors, and the networks and the trust of all its agent types.

    For configurations without weights: their names, and a hash of all settings.
    """

    path: str
    hash: str

    @staticmethod
    def of(alliance: Alliance) -> AllianceRecord:
        """Describe an open alliance."""
        cards = {name: alliance.agent_card(name) for name in sorted({*alliance.agent_names, *alliance.unaligned})}
        parts = [alliance.base_hash, *(f"{name} {card.hash} {card.trust}" for name, card in cards.items())]
        compressors, _ = compressor_cards(alliance.path, alliance.base_hash)
        parts += [f"ae{ratio} {card.hash}" for ratio, card in compressors.items()]
        return AllianceRecord(path=str(alliance.path), hash=hashlib.sha256("\n".join(parts).encode()).hexdigest())

    @staticmethod
    def of_settings(names: str, settings: Any) -> AllianceRecord:
        """Describe configurations without weights."""
        return AllianceRecord(path=names, hash=hash_content({}, settings))


@config
class ScenesRecord:
    """The scenes of a run.

    Attributes:
        source: the data set's folder, or the town and its preset.
        split: its split.
        types: the agent types, as for `--types`.
        seed: of the town, the links and the noise; None for a command without a seed.
        ego_type: the types of the egos, as for `--ego-type`; None for the egos of the source.
    """

    source: str
    split: str
    types: str
    seed: int | None = None
    ego_type: str | None = None

    @staticmethod
    def of(source: str, preset: str, split: str | None, types: str, seed: int, ego_type: str | None = None) -> ScenesRecord:
        """Describe the scenes that a command's options of these names choose."""
        name, split = source_name(source, preset), split_name(source, split)
        return ScenesRecord(source=name, split=split, types=types, seed=seed, ego_type=ego_type)


@config
class Machine:
    """The machine of a run; on a cluster, that of the command.

    Attributes:
        cpu: model of the processor.
        cores: number of cores that the command may use.
        gpu: model of the first GPU that torch can use; None without one.
        python: version of Python.
        torch: version of torch.
    """

    cpu: str
    cores: int
    gpu: str | None
    python: str
    torch: str

    @staticmethod
    def this() -> Machine:
        """Describe this machine."""
        gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
        python = platform.python_version()
        return Machine(cpu=_cpu_model(), cores=usable_cores(), gpu=gpu, python=python, torch=str(torch.__version__))


@config
class MadeBy:
    """What made an output.

    Attributes:
        command: the command line, with the plugins in use and the options that were given.
        folder: the working folder, from which relative paths in the command start.
        version: of this software.
        date: the begin, UTC, in the form of ISO 8601.
        alliance: the networks.
        scenes: the scenes.
        machine: the machine.
    """

    command: str
    folder: str
    version: str
    date: str
    alliance: AllianceRecord
    scenes: ScenesRecord
    machine: Machine

    @staticmethod
    def of(context: typer.Context, alliance: Alliance | AllianceRecord, scenes: ScenesRecord) -> MadeBy:
        """Describe the command that is running."""
        return MadeBy(
            command=command_line(context),
            folder=str(Path.cwd()),
            version=heal.__version__,
            date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            alliance=alliance if isinstance(alliance, AllianceRecord) else AllianceRecord.of(alliance),
            scenes=scenes,
            machine=Machine.this(),
        )

    @property
    def margin(self) -> str:
        """The short form for the margin of a picture, in two lines: the command, cut if it is long; version, alliance and date."""
        command = self.command if len(self.command) <= _MARGIN_LETTERS else f"{self.command[: _MARGIN_LETTERS - 3]}..."
        return f"{command}\nheal {self.version}, alliance {self.alliance.hash[:_HASH_LETTERS]}, {self.date}"


def read_made_by(folder: Path) -> MadeBy | None:
    """Read what made the output in a folder; None without a record.

    Raises:
        ConfigError: the record is damaged or of a newer version.
    """
    path = folder / RECORD_NAME
    values = load_yaml(path).get(MADE_BY) if path.is_file() else None
    return None if values is None else build_config(MadeBy, _as_mapping(path, values), str(path))


def _as_mapping(path: Path, values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise UserError(f"{path}: {MADE_BY}: expected a mapping of keys to values, got {type(values).__name__}")
    return values


def command_line(context: typer.Context) -> str:
    """Return the command that is running as a line: the plugins in use and the options that were given, in declared order."""
    return shlex.join(_words(context))


def _words(context: typer.Context) -> list[str]:
    """Return the command line of a command as words, in the order in which the command declares its parameters."""
    plugins = [word for name in plugins_in_use() for word in (_PLUGIN, _from_here(name))]
    words = ["heal", *plugins, str(context.info_name)]
    for parameter in context.command.params:
        name = str(parameter.name)
        source, value = context.get_parameter_source(name), context.params.get(name)
        given = source is not None and source.name == "COMMANDLINE"
        is_off = value is False and bool(getattr(parameter, "secondary_opts", ()))  # such as --no-use-z
        if given and name not in _LEFT_OUT and value is not None and (value is not False or is_off):
            for each in value if getattr(parameter, "multiple", False) else [value]:
                words += _words_of(parameter, each)
    return words


def split_command(command: str) -> tuple[list[str], list[str]]:
    """Return the plugins of a recorded command, and its words from the name of the command on; no words if it is none of `heal`."""
    first, *words = shlex.split(command) or [""]
    plugins = []
    while words[:1] == [_PLUGIN]:
        plugins += words[1:2]
        words = words[2:]
    return plugins, words if first == "heal" else []


def _from_here(name: str) -> str:
    """Return a plugin's file by its path from the working folder, if it lies there; another one, and a module, as it is."""
    path = Path(name)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else name


def _words_of(parameter: Any, value: Any) -> list[str]:
    """Return a parameter of a command line with its value as words."""
    if parameter.param_type_name == "argument":
        return [str(value)]
    if isinstance(value, bool):
        return [parameter.opts[0] if value else parameter.secondary_opts[0]]
    return [parameter.opts[0], *map(str, value if parameter.nargs > 1 else [value])]


def _cpu_model() -> str:
    """Return the model of the processor, as Linux names it; without a name, its architecture."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
