"""Convert HEAL's late-fusion networks (`heter_model_late`) to single-agent detectors of this package, and back.

A run holds one detector for each of its agent types: one in HEAL's Single recipes, several in a run for late fusion. Each is read
as a base with a single agent type. A detector's weights have the type's name in all their keys, such as `layers_m1.resnet...`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from heal.aligners.aligner import IdentityAlignerConfig
from heal.config import ConfigError
from heal.opencood.blocks import Plain, core_method, find_part
from heal.opencood.config import OWN_KEY, Networks, read_config, require_own, write_config
from heal.opencood.run import ImportedRun, convert_state
from heal.opencood.weights import current_keys

MODEL = "heter_model_late"
# In a modality's block, or beside the blocks: by the name that is written, a key by which the part is recognised under any name.
_PARTS = {"layers_args": "layer_nums", "shrink_header": "kernal_size", "dir_args": "num_bins"}
# Settings of a detector that need not be those of the first one in the file, beside those that HEAL does not have.
_OF_EACH = re.compile(r"base\.grid\.range_m")


def is_late(reference: Mapping[str, Any]) -> bool:
    """Return whether a HEAL configuration is of late-fusion networks."""
    return core_method(reference) == MODEL


def import_detectors(
    reference: Mapping[str, Any], state: Mapping[str, Tensor], types: Collection[str] | None = None
) -> list[ImportedRun]:
    """Convert a HEAL run of late-fusion networks, to one run for each agent type.

    Args:
        reference: the content of its config.yaml.
        state: the content of its checkpoint.
        types: agent types to read; all by default.

    Raises:
        ConfigError: the networks are not supported, or the weights do not fit the networks or are not finite.
    """
    known = [name for name in reference["model"]["args"] if re.fullmatch(r"m\d+", name)]
    if not known or (types is not None and not set(types) <= set(known)):
        raise ConfigError(f"model.args: expected the agent types {sorted(types or ['m1'])}, got {known}")
    current = current_keys(state)
    runs = []
    for name in (name for name in known if types is None or name in types):
        own = {key: tensor for key, tensor in current.items() if key.partition(".")[0].endswith(f"_{name}")}
        runs.append(convert_state(read_detector(reference, name), own))
    return runs


def read_detector(reference: Mapping[str, Any], name: str) -> Networks:
    """Convert the detector of one agent type; ConfigError for a setting that is not supported."""
    try:
        layers, fused = _as_pyramid(reference, name)
    except (KeyError, TypeError) as error:
        raise ConfigError(f"HEAL configuration: missing or empty key {error} for the type {name}") from error
    networks = read_config(fused, [name])
    pyramid = replace(networks.base.pyramid, single_agent=True, spare_stride=layers["layer_strides"][0])
    return replace(networks, base=replace(networks.base, pyramid=pyramid))


def _as_pyramid(reference: Mapping[str, Any], name: str) -> tuple[Plain, Plain]:
    """Return the layers of a detector, and its configuration in the form of one with Pyramid Fusion."""
    args = reference["model"]["args"]
    block = args[name]
    layers, shrink, directions = (_part(args, name, part) for part in _PARTS)
    fusion = {**layers, "layer_strides": [1, *layers["layer_strides"][1:]], "resnext": False}
    yaws = reference["postprocess"]["anchor_args"]["r"] if reference.get("postprocess") else directions["anchor_yaw"]
    fused = {
        "lidar_range": block["encoder_args"].get("lidar_range", args.get("lidar_range")),
        "fusion_backbone": fusion,
        "shrink_header": shrink,
        "dir_args": directions,
        "anchor_number": len(yaws),
        name: {**block, "aligner_args": {"core_method": "identity"}},
    }
    own = (reference.get(OWN_KEY) or {}).get("detectors", {}).get(name, {})
    return layers, {**reference, "model": {"core_method": "heter_pyramid_single", "args": fused}, OWN_KEY: own}


def _part(args: Mapping[str, Any], name: str, part: str) -> Plain:
    """Return a part of a detector: under its name, or the only other block with the part's key, of the type or of all types."""
    found = find_part((args[name], args), part, _PARTS[part])
    if found is None:
        raise ConfigError(f"model.args.{name}: expected a block {part} with the key {_PARTS[part]}")
    return found


def write_detectors(detectors: Mapping[str, Networks], image_px: tuple[int, int]) -> Plain:
    """Return a HEAL configuration for late fusion with detectors.

    Args:
        detectors: by agent type, named "m" and a number, its base and the type itself.
        image_px: height and width of the data set's images, which HEAL needs.

    Raises:
        ConfigError: HEAL has no setting for a part of the networks.
    """
    written = {name: _written(name, networks, image_px) for name, networks in detectors.items()}
    first, *others = written.values()
    first["fusion"] = {**first["fusion"], "core_method": "lateheter"}
    first["model"]["core_method"] = MODEL
    for other in others:
        first["model"]["args"] |= {key: block for key, block in other["model"]["args"].items() if key in detectors}
        for key in ("mapping_dict", "lidar_channels_dict", "modality_setting"):
            first["heter"][key] |= other["heter"][key]
    first["model"]["args"]["ego_modality"] = "&".join(detectors)
    own = {name: require_own(read_detector(first, name), networks, _OF_EACH) for name, networks in detectors.items()}
    return {**first, OWN_KEY: {"detectors": kept}} if (kept := {name: part for name, part in own.items() if part}) else first


def _written(name: str, networks: Networks, image_px: tuple[int, int]) -> Plain:
    """Return the configuration of one detector, its type's block whole."""
    pyramid = networks.base.pyramid
    if pyramid.groups or networks.agents[name].aligner != IdentityAlignerConfig():
        raise ConfigError(
            f"{name}: HEAL's single-agent detectors have plain residual blocks (base.pyramid.groups=0) and no aligner, got groups="
            f"{pyramid.groups} and the aligner {networks.agents[name].aligner.kind}; this network cannot be exported"
        )
    fused = replace(networks, base=replace(networks.base, pyramid=replace(pyramid, single_agent=False, spare_stride=1)))
    written = write_config(fused, image_px)
    written.pop(OWN_KEY, None)
    args = written["model"]["args"]
    layers = args.pop("fusion_backbone")
    del layers["resnext"], args[name]["aligner_args"], args["supervise_single"]
    layers["layer_strides"] = list(pyramid.stage_strides)
    heads = {"in_head": args.pop("in_head"), "anchor_number": args.pop("anchor_number")}
    args[name] |= {"layers_args": layers, "shrink_header": args.pop("shrink_header"), "head_args": heads}
    args[name]["dir_args"] = args["dir_args"]
    return written
