"""Blocks of HEAL's configuration that several parts of a network have, or whose names differ between its recipes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from heal.layers.shrink import ShrinkConfig

# A block of HEAL's configuration, as read from YAML.
Plain = dict[str, Any]
# Blocks of an agent type that may have the key of another part too.
_OF_TYPES = ("encoder_args", "backbone_args", "aligner_args")


def core_method(reference: Mapping[str, Any]) -> str | None:
    """Return HEAL's name of the networks of a configuration; None if it has none."""
    model = reference.get("model")
    return model.get("core_method") if isinstance(model, Mapping) else None


def find_part(places: Sequence[Mapping[str, Any]], name: str, key: str) -> Plain | None:
    """Return the block of a part: that with its name, or the only other block with its key, in the first place that has one.

    Args:
        places: blocks to look in, the first choice first.
        name: the part's usual name.
        key: a key by which the part is recognised under any name.
    """
    for blocks in places:
        if isinstance(blocks.get(name), Mapping):
            return dict(blocks[name])
        found = [value for other, value in blocks.items() if other not in _OF_TYPES and isinstance(value, Mapping) and key in value]
        if len(found) == 1:
            return dict(found[0])
    return None


def read_shrink(block: Mapping[str, Any]) -> ShrinkConfig:
    """Convert the block of pairs of convolutions that reduce the channels of a map."""
    return ShrinkConfig(channels=tuple(block["dim"]), sizes=tuple(block["kernal_size"]), strides=tuple(block["stride"]))


def write_shrink(settings: ShrinkConfig, in_channels: int) -> Plain:
    """Return the block of pairs of convolutions behind a map of `in_channels` channels."""
    return {
        "kernal_size": list(settings.sizes),
        "stride": list(settings.strides),
        "padding": [size // 2 for size in settings.sizes],
        "dim": list(settings.channels),
        "input_dim": in_channels,
    }


def whole_numbers(strides: Sequence[float]) -> list[float]:
    """Write whole strides as int: HEAL uses them as sizes of kernels."""
    return [int(stride) if stride == int(stride) else stride for stride in strides]


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and the value of every leaf of nested mappings."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def nested(values: Mapping[str, Any]) -> Plain:
    """Return the nested mappings of which these are the leaves, by their dotted paths."""
    tree: Plain = {}
    for path, value in values.items():
        *parents, last = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree
