"""Take a network's weights out of what training tools store around them: other entries of a checkpoint, and prefixes of names.

DataParallel and DistributedDataParallel put `module.` in front of every name, torch.compile `_orig_mod.`, Lightning the name of an
attribute such as `model.`. Training loops store the weights as one entry beside the optimiser's state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from heal.config import ConfigError
from heal.opencood.weights import State

# Entries that hold the weights; the first that is there is taken.
_ENTRIES = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights")
# Parts that no name of HEAL's weights begins with. torch.compile's part may also stand in the middle of a name.
_PREFIXES, _COMPILED = ("module", "_orig_mod", "model", "net", "network"), "_orig_mod"


@dataclass(frozen=True)
class UnwrappedState:
    """A network's weights, and what was around them.

    Attributes:
        state: the weights, under the network's own names.
        entries: the entries of the checkpoint that led to the weights, the outermost first.
        prefixes: the prefixes that were removed from the names.
    """

    state: State
    entries: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return what was taken off, in words; empty if the weights were stored as they are."""
        entries = [f"the wrapper {entry}" for entry in self.entries]
        return " and ".join([*entries, *(f"the prefix {prefix}" for prefix in self.prefixes)])


def unwrap(content: Any) -> UnwrappedState:
    """Find the weights in the content of a checkpoint.

    Raises:
        ConfigError: there are none, or several that none of the usual names tells apart.
    """
    entries: list[str] = []
    try:
        while not _is_state(content):
            entry = _entry_with_weights(content)
            entries.append(entry)
            content = content[entry]
    except RecursionError as error:
        raise ConfigError("the entries of the checkpoint are nested too deeply; store the state dict alone") from error
    state: State = {}
    prefixes: dict[str, None] = {}
    for key, tensor in content.items():
        name, removed = _without_prefixes(key)
        if name in state:
            raise ConfigError(f"the checkpoint holds {name} twice, with and without a wrapper's prefix; store one network alone")
        state[name] = tensor
        prefixes |= dict.fromkeys(removed)
    return UnwrappedState(state, tuple(entries), tuple(prefixes))


def _is_state(content: Any) -> bool:
    """Return whether a value is a state dict: names and tensors, at least one."""
    return _has_names(content) and all(isinstance(value, Tensor) for value in content.values())


def _has_names(content: Any) -> bool:
    """Return whether a value is a mapping of names that is not empty; the state of an optimiser is numbered instead."""
    return isinstance(content, Mapping) and bool(content) and all(isinstance(key, str) for key in content)


def _holds_state(content: Any) -> bool:
    return _is_state(content) or (_has_names(content) and any(_holds_state(value) for value in content.values()))


def _entry_with_weights(content: Any) -> str:
    """Return the key of the entry in which a network's weights lie; ConfigError if there is no such entry, or none to prefer."""
    if not isinstance(content, Mapping):
        raise ConfigError(f"expected a state dict (names and tensors), got {type(content).__name__}")
    found = [key for key, value in content.items() if isinstance(key, str) and "optim" not in key and _holds_state(value)]
    usual = [entry for entry in _ENTRIES if entry in found]
    if not found or not (usual or len(found) == 1):
        holds = f"weights in each of {', '.join(found)}; store one of them alone" if found else f"{_in_words(content)}"
        raise ConfigError(f"expected a state dict (names and tensors), or one in an entry such as {_ENTRIES[0]}; it holds {holds}")
    return usual[0] if usual else found[0]


def _in_words(content: Mapping[Any, Any]) -> str:
    entries = [f"{key} ({type(value).__name__})" for key, value in content.items() if not isinstance(value, Tensor)]
    return ", ".join(entries[:5]) + (" and more" if len(entries) > 5 else "") or "no entries"


def _without_prefixes(key: str) -> tuple[str, list[str]]:
    """Return a name without the parts that wrappers put into it, and these parts."""
    parts, removed = key.split("."), []
    while len(parts) > 1 and parts[0] in _PREFIXES:
        removed.append(f"{parts.pop(0)}.")
    removed += [f"{_COMPILED}." for part in parts[:-1] if part == _COMPILED]
    return ".".join([part for part in parts[:-1] if part != _COMPILED] + parts[-1:]), removed
