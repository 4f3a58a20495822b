"""Convert HEAL's network of one agent type without a name (`point_pillar_disconet`) to the form with named types, and back.

It is DiscoNet's student: its blocks and weights are those of `heter_model_baseline` with PointPillars, under other names. The
teacher leaves no trace in its checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from heal.config import ConfigError
from heal.opencood.blocks import Plain, core_method, find_part
from heal.opencood.config import OWN_KEY, UNUSED, Networks, read_config, require_own, write_config
from heal.opencood.fusions import PLAIN
from heal.opencood.run import ImportedRun, convert_state
from heal.opencood.weights import State

MODEL = "point_pillar_disconet"
_FUSION = "disconet"
# The name of the only agent type, in the form with names.
TYPE = "m1"
# What the names of an agent's weights begin with: without and with the name of its type.
_PREFIXES = {"pillar_vfe.": f"encoder_{TYPE}.pillar_vfe.", "backbone.": f"backbone_{TYPE}.", "shrink_conv.": f"shrinker_{TYPE}."}
# Blocks of `model.args` that describe the encoder, and the keys by which the others are recognised.
_ENCODER = ("voxel_size", "lidar_range", "pillar_vfe", "point_pillar_scatter")
_PARTS = {"backbone_args": ("base_bev_backbone", "layer_nums"), "shrink_header": ("shrink_header", "kernal_size")}
# The form has no place for the lines of the LiDAR.
_WITHOUT_PLACE = re.compile(rf"{UNUSED.pattern}|agents\.{TYPE}\.lidar_beams")


def is_one_type(reference: Mapping[str, Any]) -> bool:
    """Return whether a HEAL configuration is of a network of one agent type without a name."""
    return core_method(reference) == MODEL


def import_one_type(reference: Mapping[str, Any], state: Mapping[str, Tensor], types: Collection[str] | None = None) -> ImportedRun:
    """Convert a HEAL run of a network without named types; its type is called m1. Arguments and errors as for `import_state`."""
    return convert_state(_read(reference, types), {_renamed(key, _PREFIXES): tensor for key, tensor in state.items()})


def write_one_type(networks: Networks, image_px: tuple[int, int]) -> Plain:
    """Return a HEAL configuration of a network without named types.

    Args:
        networks: DiscoNet and one agent type with PointPillars, called m1.
        image_px: as for `write_config`.

    Raises:
        ConfigError: the networks are other ones, or HEAL has no setting for a part of them.
    """
    fusion = None if networks.base.fusion is None else networks.base.fusion.kind
    kinds = {name: agent.encoder.kind for name, agent in networks.agents.items()}
    more = networks.compressor is not None or networks.base.single_heads
    if fusion != _FUSION or kinds != {TYPE: "point_pillars"} or more:
        raise ConfigError(
            f"HEAL's {MODEL} is DiscoNet with one agent type, PointPillars, called {TYPE}, no compressor and no single heads; "
            f"got the fusion {fusion} and the types {kinds}; leave --one-type out"
        )
    written = _without_type(write_config(networks, image_px))
    missing = require_own(_read(written), networks, _WITHOUT_PLACE)
    return {**written, OWN_KEY: missing} if missing else written


def one_type_state(state: State) -> State:
    """Return exported weights under the names of the form without named types."""
    named = {new: old for old, new in _PREFIXES.items()}
    return {_renamed(key, named): tensor for key, tensor in state.items()}


def _read(reference: Mapping[str, Any], types: Collection[str] | None = None) -> Networks:
    """Convert the networks of a configuration without named types; ConfigError for a missing block."""
    args = reference["model"]["args"]
    parts = {name: find_part([args], *part) for name, part in _PARTS.items()}
    missing = [name for name in (*_ENCODER[:3], "dir_args") if name not in args]
    missing += [_PARTS[name][0] for name, part in parts.items() if part is None]
    if missing or args.get("compression"):
        what = f"no {' and no '.join(missing)}" if missing else "a compression, which is not supported"
        raise ConfigError(f"model.args: expected the blocks of {MODEL}, there is {what}")
    agent = {"core_method": "point_pillar", "encoder_args": {name: args[name] for name in _ENCODER if name in args}, **parts}
    heter = {"modality_setting": {TYPE: {"preprocess": reference.get("preprocess")}}}
    # Its shrink layers are the agent's; in the form with named types a block beside the types is of the base.
    kept = {key: value for key, value in args.items() if not isinstance(value, Mapping) or key in ("dir_args", _FUSION)}
    model = {"core_method": PLAIN, "args": {**kept, "fusion_method": _FUSION, TYPE: agent}}
    return read_config({**reference, "heter": heter, "model": model}, types)


def _without_type(written: Plain) -> Plain:
    """Return a configuration of one agent type in the form without named types."""
    args = dict(written["model"]["args"])
    agent = args.pop(TYPE)
    for key in ("fusion_method", "ego_modality"):
        del args[key]
    args |= {**agent["encoder_args"], **{name: agent[part] for part, (name, _) in _PARTS.items()}}
    modality = written["heter"]["modality_setting"][TYPE]
    kept = {key: value for key, value in written.items() if key not in ("heter", OWN_KEY)}
    return {
        **kept,
        "fusion": {**written["fusion"], "core_method": "intermediate"},
        "preprocess": modality["preprocess"],
        "model": {"core_method": MODEL, "args": args},
    }


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    """Replace the beginning of a name."""
    return next((new + name.removeprefix(old) for old, new in prefixes.items() if name.startswith(old)), name)
