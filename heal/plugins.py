"""Encoders and fusions from outside of this package: in Python files and modules that the user names, and in installed packages.

A plugin is a Python module with a table `ENCODERS = {MyConfig: MyEncoder}` from settings to network, as in `heal.agent_model`, or
`FUSIONS = {MyConfig: MyFusion}`, as in `heal.fusion.table`, or both. The option `heal --plugin` and the variable HEAL_PLUGINS, a
list in the form of PATH, name files and modules; an installed package names its module by an entry point of the group
`heal.encoders`. Every process loads the plugins when it first looks up an encoder or a fusion, and child processes inherit the
variable.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import heal.plugin_files as plugin_files
from heal.config import kinds_of
from heal.errors import UserError
from heal.plugin_files import VARIABLE

GROUP = "heal.encoders"
REMEDY = "heal --plugin FILE, or install the package that brings it"
SENSES = ("lidar", "camera", "both")

Networks = Mapping[type[Any], type[Any]]
"""Settings -> network."""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that a plugin may have.

    Attributes:
        name: of the variable in the module.
        entry: what an entry is, for messages.
        methods: that a network needs.
    """

    name: str
    entry: str
    methods: tuple[str, ...]


ENCODER_TABLE = Table("ENCODERS", "encoder", ("prepare", "forward"))
FUSION_TABLE = Table("FUSIONS", "fusion", ("trunk", "level_shapes", "fuse_scored", "join"))
FUSION_SETTINGS = ("strides", "upsample_strides", "foreground")
_TABLES = (ENCODER_TABLE, FUSION_TABLE)


@dataclasses.dataclass(frozen=True)
class Plugin:
    """A plugin that is loaded.

    Attributes:
        name: the file or the module, and the package that names it, for messages.
        networks: its tables by name; a table that it lacks is empty.
    """

    name: str
    networks: Mapping[str, Networks]


def plugins_in_use() -> tuple[str, ...]:
    """Return the files and modules of the variable HEAL_PLUGINS."""
    return tuple(name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name)


def use_plugins(names: Sequence[str]) -> None:
    """Load plugins, and add them to those of this process and of all processes that it starts.

    Args:
        names: Python files, by paths from the working folder that end with .py, or modules that can be imported.

    Raises:
        UserError: a file or a module is missing, cannot be loaded, or has no table of encoders or fusions.
    """
    found = tuple(dict.fromkeys(_absolute(name) for name in (*plugins_in_use(), *names)))
    load_plugins(found)
    os.environ[VARIABLE] = os.pathsep.join(found)


def with_plugins(own: Networks, table: Table) -> dict[type[Any], type[Any]]:
    """Return the networks of this package and those of all plugins.

    Args:
        own: the table of this package.
        table: which of the plugins' tables.

    Raises:
        UserError: a plugin cannot be loaded, or brings a kind that is there already.
    """
    known = dict(own)
    brought_by = {kind: "heal itself" for settings in own for kind in kinds_of(settings)}
    for plugin in load_plugins(plugins_in_use()):
        for settings, network in plugin.networks[table.name].items():
            if settings in known:  # the same module, named twice
                continue
            known[settings] = network
            for kind in kinds_of(settings):
                if kind in brought_by:
                    raise UserError(
                        f"{brought_by[kind]} and the plugin {plugin.name} both bring the {table.entry} {kind!r}; use one of them"
                    )
                brought_by[kind] = f"the plugin {plugin.name}"
    return known


@cache
def load_plugins(names: tuple[str, ...]) -> tuple[Plugin, ...]:
    """Load plugins and those of installed packages; UserError names the first that cannot be loaded."""
    return (*(_plugin(_absolute(name), name) for name in names), *_installed_plugins())


def _installed_plugins() -> Iterator[Plugin]:
    """Load the modules that installed packages name by entry points."""
    for point in entry_points(group=GROUP):
        package = "" if point.dist is None else f" of the installed package {point.dist.name}"
        yield _plugin(point.value, f"{point.value}{package}")


def _absolute(name: str) -> str:
    """Return a file by its absolute path; the name of a module as it is."""
    if not name.endswith(".py"):
        return name
    path = Path(name).expanduser().absolute()
    if not path.is_file():
        raise UserError(f"plugin {name}: no such file")
    if not path.stem.isidentifier() or os.pathsep in str(path):
        raise UserError(f"plugin {name}: expected a name such as my_encoder.py, and a path without {os.pathsep!r}")
    return str(path)


def _plugin(module_or_path: str, name: str) -> Plugin:
    """Load a plugin, and check its tables."""
    module = _load(module_or_path, name)
    tables = {table.name: getattr(module, table.name, {}) for table in _TABLES}
    if not all(isinstance(networks, Mapping) for networks in tables.values()) or not any(tables.values()):
        found = {key: networks for key, networks in tables.items() if hasattr(module, key)} or "none"
        raise UserError(
            f"plugin {name}: expected a table ENCODERS = {{MyConfig: MyEncoder}} or FUSIONS = {{MyConfig: MyFusion}}, found {found}"
        )
    for table in _TABLES:
        for settings, network in tables[table.name].items():
            problem = _problem_of_settings(settings, table) or _problem_of_network(network, table)
            if problem := problem or (_problem_of_fusion(settings) if table is FUSION_TABLE else ""):
                raise UserError(f"plugin {name}: {problem}")
    return Plugin(name, tables)


def _load(module_or_path: str, name: str) -> ModuleType:
    """Import a module, or a file as part of the package `heal.plugin_files`."""
    path = Path(module_or_path)
    is_file = path.suffix == ".py"
    if is_file and str(path.parent) not in plugin_files.__path__:
        plugin_files.__path__.append(str(path.parent))
    try:
        importlib.invalidate_caches()
        module = importlib.import_module(f"{plugin_files.__name__}.{path.stem}" if is_file else module_or_path)
    except Exception as error:
        raise UserError(f"plugin {name} cannot be loaded: {_cause(error, module_or_path)}") from error
    if is_file and not path.samefile(str(module.__file__)):
        raise UserError(f"plugin {name}: {module.__file__} has the same name and was loaded in its place; rename one of them")
    return module


def _cause(error: Exception, path: str) -> str:
    """Return what went wrong, and in which line of a plugin's file."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f"{type(error).__name__}: {error}" + (f" (line {lines[-1]})" if lines else "")


def _problem_of_settings(settings: Any, table: Table) -> str:
    """Return what is wrong with a key of a plugin's table; "" if it can be used."""
    if not isinstance(settings, type) or not dataclasses.is_dataclass(settings) or not hasattr(settings, "__pydantic_config__"):
        return f"expected classes made by @config of heal.config as keys of {table.name}, got {settings!r}"
    try:
        kinds = kinds_of(settings)
    except NameError as error:
        return f"{settings.__name__}: the type of a field cannot be read: {error}"
    if not kinds:
        return f"{settings.__name__}: expected a field kind: Literal['my_kind'] = 'my_kind'"
    return _problem_of_encoder(settings) if table is ENCODER_TABLE else ""


def _problem_of_encoder(settings: type[Any]) -> str:
    """Return what an encoder's settings lack; "" if they can be used."""
    if (senses := getattr(settings, "senses", None)) not in SENSES:
        return f"{settings.__name__}: expected senses: ClassVar[str] to be one of {', '.join(SENSES)}, got {senses!r}"
    if _lacks(settings, "out_channels"):
        return f"{settings.__name__}: expected out_channels, the number of channels of the encoder's maps"
    return ""


def _problem_of_fusion(settings: type[Any]) -> str:
    """Return what a fusion's settings lack; "" if they can be used."""
    missing = [name for name in FUSION_SETTINGS if _lacks(settings, name)]
    return f"{settings.__name__}: expected {' and '.join(missing)}, as MapFusionConfig of heal.fusion has them" if missing else ""


def _lacks(settings: type[Any], name: str) -> bool:
    """Return whether settings have neither an attribute nor a field of this name."""
    return not hasattr(settings, name) and name not in {field.name for field in dataclasses.fields(settings)}


def _problem_of_network(network: Any, table: Table) -> str:
    """Return what is wrong with a value of a plugin's table; "" if it can be used."""
    missing = [name for name in table.methods if not callable(getattr(network, name, None))]
    if missing or not isinstance(network, type):
        return f"expected classes with {' and '.join(table.methods)} as values of {table.name}, got {network!r}"
    return ""
