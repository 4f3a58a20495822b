"""Configuration: frozen typed trees with the defaults in code; YAML only overrides, and an unknown key is an error.

A config class is declared with `@config`. It stays a plain dataclass, so the networks need nothing but torch; `build_config`
checks what was read from a file with pydantic.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

from typing_extensions import dataclass_transform

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

T = TypeVar("T")


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the file, the key, and what was expected."""


@dataclass_transform(frozen_default=True, kw_only_default=True)
def config(cls: type[T]) -> type[T]:
    """Declare a frozen, keyword-only config class whose unknown keys are errors when it is built from a file."""
    cls.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


class ByKind:
    """Marks a union of config classes that a `kind` tells apart: `Annotated[A | B, BY_KIND]`; without a kind it is the first."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """What pydantic asks for when it meets the mark."""
        from pydantic_core import core_schema

        kinds = {kind: member for member in get_args(source) for kind in get_args(get_type_hints(member)["kind"])}
        first = next(iter(kinds))
        return core_schema.tagged_union_schema(
            {kind: handler.generate_schema(member) for kind, member in kinds.items()},
            lambda values: values.get("kind", first) if isinstance(values, Mapping) else getattr(values, "kind", first),
            custom_error_type="unknown_kind",
            custom_error_message=f"expected one of the kinds {', '.join(kinds)}",
        )


BY_KIND = ByKind()


def build_config(cls: type[T], values: Mapping[str, Any], source: str = "configuration") -> T:
    """Build a config class from nested plain values.

    Raises:
        ConfigError: naming `source` and every bad key, with the nearest known one.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(cls).validate_python(dict(values))
    except ValidationError as error:
        lines = "\n".join(f"  {_explain(cls, detail)}" for detail in error.errors())
        raise ConfigError(f"{source}:\n{lines}") from error


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping; ConfigError naming the file otherwise."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Safe loading in which 1e-10 is a number; YAML 1.1 alone calls it a string."""

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
    )
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of keys to values at the top level, got {type(values).__name__}")
    return values


def load_config(cls: type[T], path: Path, overrides: Sequence[str] = ()) -> T:
    """Read a YAML file into `cls`; `overrides` are `key.sub=value` strings, as given on a command line."""
    return build_config(cls, apply_overrides(load_yaml(path), overrides), str(path))


def save_config(values: Any, path: Path) -> None:
    """Write a config instance as YAML that `load_config` reads back to an equal one."""
    import yaml

    path.write_text(yaml.safe_dump(to_plain(values), sort_keys=False), encoding="utf-8")


def to_plain(values: Any) -> Any:
    """A config instance as nested dictionaries, lists and numbers."""
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        return {field.name: to_plain(getattr(values, field.name)) for field in dataclasses.fields(values)}
    if isinstance(values, Mapping):
        return {key: to_plain(value) for key, value in values.items()}
    if isinstance(values, (tuple, list)):
        return [to_plain(value) for value in values]
    return values


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `values` with each `key.sub=value` set; the value is read as YAML, so `[1, 2]` is a list and `1e-3` a number."""
    import copy

    result = copy.deepcopy(dict(values))
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: expected key=value, such as training.epochs=5")
        node = result
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(f"--set {text}: {parent} is a value, not a section")
        node[last] = _parse_scalar(value)
    return result


def _parse_scalar(text: str) -> Any:
    import yaml

    try:
        return float(text) if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+", text) else yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set ...={text}: not a YAML value: {error}") from error


def _explain(cls: type[Any], detail: ErrorDetails) -> str:
    where = ".".join(str(part) for part in detail["loc"])
    if detail["type"] != "unexpected_keyword_argument":
        return f"{where}: {detail['msg']}, got {detail['input']!r}"
    known = _known_keys(cls)
    near = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known keys: {', '.join(sorted(known))}"
    return f"{where}: unknown key{hint}"


def _known_keys(cls: type[Any]) -> set[str]:
    """The names of all fields of `cls` and of the config classes inside it."""
    names: set[str] = set()
    pending: list[Any] = [cls]
    while pending:
        current = pending.pop()
        pending.extend(get_args(current))
        if dataclasses.is_dataclass(current) and isinstance(current, type):
            names |= {field.name for field in dataclasses.fields(current)}
            pending.extend(get_type_hints(current).values())
    return names
