"""HEAL's names of Lift-Splat's weights, which differ in the trunks: HEAL does not take them from timm."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from heal.config import ConfigError

# timm's name of a trunk -> HEAL's name.
REFERENCE_TRUNKS = {"tf_efficientnet_b0": "EfficientNet", "resnet101": "Resnet101"}
# Names inside the trunk: timm's -> those of the package that HEAL's EfficientNet comes from.
_STEM = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
_PLAIN_BLOCK = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
_EXPANDING_BLOCK = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}
_SQUEEZE = {"se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand"}
_TRUNK = "camencode.trunk.net."


def reference_names(ours: Iterable[str], trunk: str) -> dict[str, str]:
    """Return HEAL's name of every weight of the encoder, by our name; neither has the prefix of the encoder.

    Args:
        ours: our names of all weights of the encoder.
        trunk: timm's name of its trunk.

    Raises:
        ConfigError: HEAL has no such trunk.
    """
    names = list(ours)
    inside = [name.removeprefix(_TRUNK) for name in names if name.startswith(_TRUNK)]
    if reference_trunk(trunk) == "EfficientNet":
        theirs = {name: f"camencode.trunk.{renamed}" for name, renamed in _efficientnet_names(inside).items()}
    else:
        theirs = {name: f"camencode.{name}" for name in inside}
    return {name: theirs[name.removeprefix(_TRUNK)] if name.startswith(_TRUNK) else name for name in names}


def reference_trunk(trunk: str) -> str:
    """Return HEAL's name of a trunk; ConfigError if HEAL has no such trunk."""
    network = trunk.partition(".")[0]  # after the point, timm names the training of the published weights
    if network not in REFERENCE_TRUNKS:
        raise ConfigError(f"encoder.trunk={trunk}: HEAL has only {' and '.join(REFERENCE_TRUNKS)}")
    return REFERENCE_TRUNKS[network]


def _efficientnet_names(names: list[str]) -> dict[str, str]:
    """Return HEAL's name of every weight of an EfficientNet, by timm's; HEAL numbers blocks through all stages."""
    blocks = sorted({(int(match[1]), int(match[2])) for name in names if (match := re.match(r"blocks\.(\d+)\.(\d+)\.", name))})
    number = {f"blocks.{stage}.{block}.": i for i, (stage, block) in enumerate(blocks)}
    expanding = {name.partition("conv_pwl")[0] for name in names if "conv_pwl" in name}
    return {name: _efficientnet_name(name, number, expanding) for name in names}


def _efficientnet_name(name: str, number: Mapping[str, int], expanding: set[str]) -> str:
    """Return HEAL's name of one weight.

    Args:
        name: timm's name.
        number: HEAL's number of every block, by timm's prefix.
        expanding: timm's prefixes of the blocks that expand their channels.
    """
    layer, _, weight = name.rpartition(".")
    match = re.match(r"blocks\.\d+\.\d+\.", name)
    if match is None:
        return f"{_STEM[layer]}.{weight}"
    block = match[0]
    known = {**(_EXPANDING_BLOCK if block in expanding else _PLAIN_BLOCK), **_SQUEEZE}
    return f"_blocks.{number[block]}.{known[layer.removeprefix(block)]}.{weight}"
