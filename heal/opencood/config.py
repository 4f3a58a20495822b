"""Convert HEAL's config.yaml to configurations of this package, and back.

Settings that HEAL does not have are written under a key of our own, which HEAL does not read. So a conversion to HEAL and back
loses nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from heal.agent_model import AgentConfig
from heal.base_model import BaseConfig
from heal.config import ConfigError, build_config, config, to_plain
from heal.encoders.lift_splat import LiftSplatConfig
from heal.layers.compressor import CompressorConfig
from heal.opencood.agents import read_agent, write_agent
from heal.opencood.base import read_base, write_base, write_post, write_preprocess
from heal.opencood.blocks import Plain, leaves
from heal.opencood.fusions import BASELINES, PLAIN, PYRAMIDS

# Our own key in an exported file, and the settings that it may contain: settings that do not change the networks.
OWN_KEY = "heal_perception"
_OWN_SETTINGS = re.compile(
    r"base\.(decode|anchors|targets)\..*|base\.fusion\.order"
    r"|agents\.m\d+\.encoder\.(max_\w+|cameras|image\..*|pretrained|drop_path|norm_momentum|classifier)"
)
# Settings without an effect in a base with another fusion than Pyramid Fusion: those of the pyramid, and of no shrink layers.
UNUSED = re.compile(r"base\.pyramid\..*|base\.shrink_(sizes|strides)")


@config
class Networks:
    """A base, the agent types that work with it, and the compressor of their maps, if there is one."""

    base: BaseConfig
    agents: dict[str, AgentConfig]
    compressor: CompressorConfig | None = None


def read_config(reference: Mapping[str, Any], types: Collection[str] | None = None) -> Networks:
    """Convert the networks of a HEAL configuration: its blocks `model`, `postprocess` and `heter`.

    Args:
        reference: the content of a config.yaml.
        types: agent types to read; all by default.

    Raises:
        ConfigError: another kind of network, or a setting that is not supported.
    """
    try:
        networks = _read(reference, types)
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"HEAL configuration: missing or empty key {error}; expected the config.yaml of a HEAL run folder"
        ) from error
    own = reference.get(OWN_KEY) or {}
    agents = {name: values for name, values in own.get("agents", {}).items() if name in networks.agents}
    return build_config(Networks, _merged(to_plain(networks), {**own, "agents": agents}), OWN_KEY)


def _read(reference: Mapping[str, Any], types: Collection[str] | None = None) -> Networks:
    """Convert HEAL's own blocks, without those under our own key; KeyError or TypeError for a missing or empty key."""
    kind, args = reference["model"]["core_method"], reference["model"]["args"]
    if kind not in (*PYRAMIDS, *BASELINES):
        raise ConfigError(f"model.core_method: expected {', '.join((*PYRAMIDS, *BASELINES))}, got {kind}, which cannot be imported")
    heter = reference.get("heter") or {}
    settings, beams = heter.get("modality_setting") or {}, heter.get("lidar_channels_dict") or {}
    known = [name for name in args if re.fullmatch(r"m\d+", name)]
    if not known or (types is not None and not set(types) <= set(known)):
        raise ConfigError(f"model.args: expected the agent types {sorted(types or ['m1'])}, got {known}")
    names = [name for name in known if types is None or name in types]
    read = {name: read_agent(name, args[name], (settings.get(name) or {}).get("preprocess") or {}, kind == PLAIN) for name in names}
    base = read_base(kind, args, read, reference.get("postprocess") or {})
    dair = _is_for_dair(reference)
    agents = {name: _of_data(part.config, beams.get(name), dair) for name, part in read.items()}
    return Networks(base=base, agents=agents, compressor=_read_compressor(args.get("compressor"), base.in_channels))


def _read_compressor(block: Mapping[str, Any] | None, channels: int) -> CompressorConfig | None:
    """Convert the block of a compressor; ConfigError if its channels are not those of the maps."""
    if not block:
        return None
    if block["input_dim"] != channels:
        raise ConfigError(
            f"model.args.compressor.input_dim: expected the {channels} channels of the maps, got {block['input_dim']}"
        )
    return CompressorConfig(channels=channels, ratio=block["compress_ratio"])


def _is_for_dair(reference: Mapping[str, Any]) -> bool:
    """Return whether a configuration is for DAIR-V2X, as the name of its data set or the key `data_dir` tells."""
    return "data_dir" in reference or str((reference.get("fusion") or {}).get("dataset")).startswith("dair")


def _of_data(settings: AgentConfig, beams: int | None, dair: bool) -> AgentConfig:
    """Return an agent type for the sensors of its data set: its LiDAR's lines, and the one camera of DAIR-V2X for HEAL's four."""
    if dair and isinstance(settings.encoder, LiftSplatConfig):
        settings = replace(settings, encoder=replace(settings.encoder, cameras=()))
    return settings if beams is None else replace(settings, lidar_beams=beams)


def write_config(networks: Networks, image_px: tuple[int, int]) -> Plain:
    """Return a HEAL configuration for inference with these networks.

    Args:
        networks: the networks; their agent types must be named "m" and a number.
        image_px: height and width of the data set's images, which HEAL needs.

    Raises:
        ConfigError: HEAL has no setting for a part of the networks.
    """
    wrong = [name for name in networks.agents if not re.fullmatch(r"m\d+", name)]
    if wrong:
        raise ConfigError(
            f"HEAL's agent types are named m1, m2 and so on, got {', '.join(wrong)}; rename with --rename {wrong[0]}=m1"
        )
    written = _write(networks, image_px)
    missing = require_own(_read(written), networks, None if networks.base.fusion is None else UNUSED)
    return {**written, OWN_KEY: missing} if missing else written


def require_own(read: Networks, networks: Networks, also: re.Pattern[str] | None = None) -> Plain:
    """Return the settings of networks that a written configuration loses, to be written under our own key.

    Args:
        read: the networks as they are read from the written configuration.
        networks: the networks themselves.
        also: further settings, by their dotted paths, that may be written under our own key.

    Raises:
        ConfigError: such a setting changes the networks, and HEAL does not have it.
    """
    missing = _difference(to_plain(read), to_plain(networks))
    for path, value in leaves(missing):
        if not _OWN_SETTINGS.fullmatch(path) and not (also and also.fullmatch(path)):
            raise ConfigError(f"HEAL has no setting for {path} = {value}, so this network cannot be exported")
    return missing


def _write(networks: Networks, image_px: tuple[int, int]) -> Plain:
    base, names = networks.base, list(networks.agents)
    written = {name: write_agent(settings, base.grid, image_px) for name, settings in networks.agents.items()}
    blocks = {name: block for name, (block, _) in written.items()}
    model, args = write_base(base, names)
    return {
        "name": "exported",
        "yaml_parser": "load_general_params",
        "input_source": ["lidar", "camera", "depth"],
        "label_type": "lidar",
        "comm_range": 70,
        "train_params": {"batch_size": 1, "epoches": 1, "eval_freq": 1, "save_freq": 1, "max_cav": 5},
        "heter": {
            "assignment_path": None,
            "ego_modality": names[0],
            "mapping_dict": {name: name for name in names},
            "lidar_channels_dict": {name: agent.lidar_beams for name, agent in networks.agents.items() if agent.sensor.lidar},
            "modality_setting": {name: modality for name, (_, modality) in written.items()},
        },
        "fusion": {"core_method": "intermediateheter", "dataset": "opv2v", "args": {"proj_first": False}},
        "preprocess": write_preprocess(base),
        "postprocess": write_post(base),
        "model": {"core_method": model, "args": {**args, **blocks, **_write_compressor(networks)}},
    }


def _write_compressor(networks: Networks) -> Plain:
    compressor = networks.compressor
    return {} if compressor is None else {"compressor": {"input_dim": compressor.channels, "compress_ratio": compressor.ratio}}


def _merged(under: Plain, over: Mapping[str, Any]) -> Plain:
    """Join nested mappings; where both have a value, the value of `over` is kept."""
    merged = dict(under)
    for key, value in over.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if nested else value
    return merged


def _difference(found: Plain, wanted: Plain) -> Plain:
    """Return the entries of `wanted` that are missing or different in `found`."""
    difference: Plain = {}
    for key, value in wanted.items():
        if isinstance(value, dict) and isinstance(found.get(key), dict):
            if inner := _difference(found[key], value):
                difference[key] = inner
        elif key not in found or found[key] != value:
            difference[key] = value
    return difference
