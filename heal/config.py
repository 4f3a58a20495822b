"""Configuration: frozen typed trees with defaults in code. YAML only overrides defaults; an unknown key is an error.

A config class is declared with `@config`. It stays a plain dataclass, so the networks need only torch; `build_config` checks the
values of a file with pydantic.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from typing_extensions import dataclass_transform

from heal.errors import UserError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

T = TypeVar("T")

_LATER = "later"  # in the metadata of a field
_MOST_LETTERS = 500  # of a value in an error message
_UNKNOWN_KIND = "unknown_kind"  # the type of an error


class ConfigError(UserError):
    """A configuration that cannot be used; the message names the file, the key and the expected value."""


@dataclass_transform(frozen_default=True, kw_only_default=True)
def config(cls: type[T]) -> type[T]:
    """Declare a frozen, keyword-only config class whose unknown keys are errors when it is built from a file."""
    cls.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


def later(default: T) -> T:
    """Declare a field of a config class that was added after alliances had been saved: at its default it has no part in hashes.

    So an alliance that was saved before keeps its content hash.
    """
    field: T = dataclasses.field(default=default, metadata={_LATER: True})
    return field


class ByKind:
    """Marks config classes of which a key `kind` selects one, by default the first: `Annotated[A | B, BY_KIND]`."""

    def __init__(self, members: Callable[[], Iterable[type[Any]]] | None = None, remedy: str = "") -> None:
        """Mark a union, or the type Any.

        Args:
            members: returns the config classes that may be chosen at the moment; None for those of the union.
            remedy: what to do about a kind that is not among them.
        """
        self._members, self._remedy = members, remedy

    def members(self, source: Any) -> tuple[type[Any], ...]:
        """Return the config classes that may be chosen; `source` is the type that is marked."""
        return get_args(source) if self._members is None else tuple(self._members())

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Return the schema of the union; pydantic calls this method where it finds the mark."""
        from pydantic_core import core_schema

        kinds = {kind: member for member in self.members(source) for kind in kinds_of(member)}
        first = next(iter(kinds))
        return core_schema.tagged_union_schema(
            {kind: handler.generate_schema(member) for kind, member in kinds.items()},
            lambda values: values.get("kind", first) if isinstance(values, Mapping) else getattr(values, "kind", first),
            custom_error_type=_UNKNOWN_KIND,
            custom_error_message=f"expected one of the kinds {', '.join(kinds)}",
            custom_error_context={"kinds": ", ".join(kinds), "remedy": self._remedy},
        )


BY_KIND = ByKind()


def kinds_of(settings: type[Any]) -> tuple[str, ...]:
    """Return the values of a config class's key `kind`; empty if it has no such key, or one that takes any value."""
    hint = get_type_hints(settings).get("kind")
    return get_args(hint) if get_origin(hint) is Literal else ()


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
    except (ArithmeticError, LookupError, RecursionError) as error:
        # A check of a config class that computes with the values, such as with a stride of 0 or with lists of different lengths.
        raise ConfigError(f"{source}: the values do not fit together: {type(error).__name__}: {error}") from error


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping; ConfigError names the file otherwise."""
    import yaml

    from heal.safe_yaml import read_safely

    try:
        values = read_safely(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
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


def to_plain(values: Any, *, hashed: bool = False) -> Any:
    """Convert a config instance to nested dictionaries, lists and plain values.

    Args:
        values: the instance.
        hashed: for a content hash: leave out the fields of `later` that are at their defaults.
    """
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        items = ((field, getattr(values, field.name)) for field in dataclasses.fields(values))
        return {field.name: to_plain(value, hashed=hashed) for field, value in items if not (hashed and _is_unset(field, value))}
    if isinstance(values, Mapping):
        return {key: to_plain(value, hashed=hashed) for key, value in values.items()}
    if isinstance(values, (tuple, list)):
        return [to_plain(value, hashed=hashed) for value in values]
    return values


def _is_unset(field: dataclasses.Field[Any], value: Any) -> bool:
    """Return whether a field that came later is at its default."""
    return bool(field.metadata.get(_LATER)) and value == field.default


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a copy of `values` with each `key.sub=value` set; values are YAML: `[1, 2]` is a list and `1e-3` a number."""
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
        node[last] = _parse_override(value)
    return result


def _parse_override(text: str) -> Any:
    import yaml

    from heal.safe_yaml import read_safely

    try:
        return read_safely(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set ...={text}: not a YAML value: {error}") from error


def _explain(cls: type[Any], detail: ErrorDetails) -> str:
    """Return one line of an error message: the key and its problem, with the nearest known key for an unknown one."""
    where = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "value_error":
        # Raised by a config class, whose message says what came; the input would be all its values.
        return ": ".join(part for part in (where, str(detail["ctx"]["error"])) if part)
    if detail["type"] == _UNKNOWN_KIND:
        return _explain_kind(where, detail)
    if detail["type"] == "dataclass_type":
        keys = ", ".join(
            field.name for section in _sections(cls, detail["ctx"]["class_name"]) for field in dataclasses.fields(section)
        )
        return f"{where}: expected a section with keys of its own ({keys}), got {_short(detail['input'])}"
    if detail["type"] != "unexpected_keyword_argument":
        return f"{where}: {detail['msg']}, got {_short(detail['input'])}"
    known, key = _known_keys(cls), str(detail["loc"][-1])
    if places := _places_of(key, cls):
        return f"{where}: unknown key here; did you mean {' or '.join(map(repr, places))}?"
    near = difflib.get_close_matches(key, known - {key}, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known keys: {', '.join(sorted(known))}"
    return f"{where}: unknown key{hint}"


def _short(value: Any) -> str:
    """Return a value for an error message, shortened."""
    text = repr(value)
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}..."


def _explain_kind(where: str, detail: ErrorDetails) -> str:
    """Return one line on a kind that is not known, with the nearest known one and the remedy."""
    values, kinds, remedy = detail["input"], str(detail["ctx"]["kinds"]), detail["ctx"]["remedy"]
    kind = values.get("kind") if isinstance(values, Mapping) else getattr(values, "kind", None)
    near = difflib.get_close_matches(str(kind), kinds.split(", "), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    if remedy:
        return f"{where} {kind!r} is not installed: {remedy}; installed are {kinds}{hint}"
    return f"{where}: expected one of the kinds {kinds}, got {kind!r}{hint}"


def _known_keys(cls: type[Any]) -> set[str]:
    """Return the names of all fields of `cls` and of the config classes inside it."""
    return {field.name for section in _sections(cls) for field in dataclasses.fields(section)}


def _sections(cls: type[Any], name: str | None = None) -> list[type[Any]]:
    """Return `cls` and the config classes inside it; with `name` only those with this name."""
    found: list[type[Any]] = []
    pending: list[Any] = [cls]
    while pending:
        current = pending.pop()
        pending.extend(_parts_of(current))
        if dataclasses.is_dataclass(current) and isinstance(current, type) and current not in found:
            found.append(current)
            pending.extend(get_type_hints(current, include_extras=True).values())
    return [section for section in found if name in (None, section.__name__)]


def _parts_of(hint: Any) -> tuple[Any, ...]:
    """Return the types of which a type is made, such as the members of a union."""
    if get_origin(hint) is not Annotated:
        return get_args(hint)
    marked, *marks = get_args(hint)
    return next((mark.members(marked) for mark in marks if isinstance(mark, ByKind)), (marked,))


def _places_of(key: str, cls: type[Any], section: str = "") -> list[str]:
    """Return where `cls` and its sections have a key of this name, such as "run.codec"; none inside lists and mappings."""
    places = []
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if get_origin(hint) is ClassVar:
            continue
        places += [f"{section}{name}"] if name == key else []
        for kind in (hint, *_parts_of(hint)) if get_origin(hint) in (None, Union, UnionType, Annotated) else ():
            if dataclasses.is_dataclass(kind) and isinstance(kind, type):
                places += _places_of(key, kind, f"{section}{name}.")
    return places
