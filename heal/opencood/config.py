"""Convert HEAL's config.yaml to configurations of this package, and back.

Settings that HEAL does not have are written under a key of our own, which HEAL does not read. So a conversion to HEAL and back
loses nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from heal.agent_model import AgentConfig
from heal.base_model import BaseConfig
from heal.config import ConfigError, build_config, config, to_plain
from heal.encoders.lift_splat import LiftSplatConfig
from heal.fusion.pyramid import PyramidConfig
from heal.layers.compressor import CompressorConfig
from heal.opencood.agents import INPLANES, ReadAgent, read_agent, whole_numbers, write_agent
from heal.opencood.lidar import Plain

# Our own key in an exported file, and the settings that it may contain: settings that do not change the networks.
OWN_KEY = "heal_perception"
_OWN_SETTINGS = re.compile(
    r"base\.(decode|anchors|targets)\..*|agents\.m\d+\.encoder\.(max_\w+|cameras|image\..*|pretrained|drop_path|norm_momentum|classifier)"
)
# Constants of HEAL's post-processing: the largest extent of a box, and the limits of its height.
_EXTENT_M, _HEIGHTS_M = 6.0, (-3.0, 1.0)
_MODELS = ("heter_pyramid_collab", "heter_pyramid_single")
# The groups of HEAL's ResNeXt blocks, a constant.
_GROUPS = 32


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
    if kind not in _MODELS:
        raise ConfigError(
            f"model.core_method: expected {' or '.join(_MODELS)}, got {kind}; only Pyramid Fusion and late fusion can be imported"
        )
    heter = reference.get("heter") or {}
    settings, beams = heter.get("modality_setting") or {}, heter.get("lidar_channels_dict") or {}
    known = [name for name in args if re.fullmatch(r"m\d+", name)]
    if not known or (types is not None and not set(types) <= set(known)):
        raise ConfigError(f"model.args: expected the agent types {sorted(types or ['m1'])}, got {known}")
    names = [name for name in known if types is None or name in types]
    read = {name: read_agent(name, args[name], (settings.get(name) or {}).get("preprocess") or {}) for name in names}
    base = _read_base(args, read, reference.get("postprocess") or {})
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


def _read_base(args: Mapping[str, Any], agents: Mapping[str, ReadAgent], post: Mapping[str, Any]) -> BaseConfig:
    fusion, shrink, directions = args["fusion_backbone"], args["shrink_header"], args["dir_args"]
    channels = {part.config.backbone.out_channels for part in agents.values()}
    if channels != {fusion.get("inplanes", INPLANES)}:
        raise ConfigError(
            f"model.args: agents send {sorted(channels)} channels, the pyramid takes {fusion.get('inplanes', INPLANES)}"
        )
    cells = {part.cell_m for part in agents.values()}
    ranges = {tuple(args["lidar_range"])} | {part.range_m for part in agents.values() if part.range_m}
    if len(cells) != 1 or len(ranges) != 1:
        raise ConfigError(f"model.args: expected one range and one size of cells, got ranges {ranges} and cells of {cells} m")
    values = {
        "grid": {"range_m": list(*ranges), "cell_m": cells.pop()},
        "in_channels": channels.pop(),
        "pyramid": to_plain(_read_pyramid(fusion)),
        "shrink_channels": shrink["dim"],
        "shrink_sizes": shrink["kernal_size"],
        "shrink_strides": shrink["stride"],
        "direction_bins": directions["num_bins"],
        **_read_post(post, directions, args["anchor_number"]),
    }
    return build_config(BaseConfig, values, "HEAL configuration")


def _read_pyramid(fusion: Mapping[str, Any]) -> PyramidConfig:
    if fusion.get("align_corners"):
        raise ConfigError("model.args.fusion_backbone.align_corners: expected false, got true; it is not supported")
    return PyramidConfig(
        blocks=tuple(fusion["layer_nums"]),
        strides=tuple(fusion["layer_strides"]),
        channels=tuple(fusion["num_filters"]),
        groups=_GROUPS if fusion.get("resnext") else 0,
        upsample_strides=tuple(fusion["upsample_strides"]),
        upsample_channels=tuple(fusion["num_upsample_filter"]),
    )


def _read_post(post: Mapping[str, Any], directions: Mapping[str, Any], anchors: int) -> Plain:
    """Convert `postprocess` to anchors, targets and decoding; a missing block leaves the paper's defaults."""
    decode: Plain = {"direction_offset_rad": directions["dir_offset"], "max_extent_m": _EXTENT_M, "z_limits_m": _HEIGHTS_M}
    if not post:
        return {"decode": decode}
    sizes, target = post["anchor_args"], post["target_args"]
    if post.get("order", "hwl") != "hwl" or len(sizes["r"]) != anchors:
        raise ConfigError(
            f"postprocess: expected order hwl and {anchors} anchors per cell, got {post.get('order')} and yaws {sizes['r']}"
        )
    decode |= {"score_threshold": target["score_threshold"], "nms_iou": post["nms_thresh"]}
    return {
        "anchors": {"length_m": sizes["l"], "width_m": sizes["w"], "height_m": sizes["h"], "yaws_deg": sizes["r"]},
        "targets": {"positive_iou": target["pos_threshold"], "negative_iou": target["neg_threshold"]},
        "decode": decode,
    }


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
    missing = require_own(_read(written), networks)
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
    for path, value in _leaves(missing):
        if not _OWN_SETTINGS.fullmatch(path) and not (also and also.fullmatch(path)):
            raise ConfigError(f"HEAL has no setting for {path} = {value}, so this network cannot be exported")
    return missing


def _write(networks: Networks, image_px: tuple[int, int]) -> Plain:
    base, names = networks.base, list(networks.agents)
    written = {name: write_agent(settings, base.grid, image_px) for name, settings in networks.agents.items()}
    blocks = {name: block for name, (block, _) in written.items()}
    directions = {
        "dir_offset": base.decode.direction_offset_rad,
        "num_bins": base.direction_bins,
        "anchor_yaw": list(base.anchors.yaws_deg),
    }
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
        "preprocess": _write_preprocess(base),
        "postprocess": _write_post(base, directions),
        "model": {
            "core_method": "heter_pyramid_collab",
            "args": {**_write_base(base, directions, names), **blocks, **_write_compressor(networks)},
        },
    }


def _write_compressor(networks: Networks) -> Plain:
    compressor = networks.compressor
    return {} if compressor is None else {"compressor": {"input_dim": compressor.channels, "compress_ratio": compressor.ratio}}


def _write_preprocess(base: BaseConfig) -> Plain:
    """Return the block `preprocess`, from which HEAL's anchors read the range and the size of voxels."""
    z_min, z_max = base.grid.range_m[2], base.grid.range_m[5]
    edge = base.grid.cell_m / 2
    args = {"voxel_size": [edge, edge, z_max - z_min], "max_points_per_voxel": 1, "max_voxel_train": 1, "max_voxel_test": 1}
    return {"core_method": "SpVoxelPreprocessor", "args": args, "cav_lidar_range": list(base.grid.range_m)}


def _write_base(base: BaseConfig, directions: Plain, names: list[str]) -> Plain:
    pyramid = base.pyramid
    return {
        "ego_modality": "&".join(names),
        "lidar_range": list(base.grid.range_m),
        "supervise_single": True,
        "fusion_backbone": {
            "resnext": bool(pyramid.groups),
            "layer_nums": list(pyramid.blocks),
            "layer_strides": list(pyramid.strides),
            "num_filters": list(pyramid.channels),
            "upsample_strides": whole_numbers(pyramid.upsample_strides),
            "num_upsample_filter": list(pyramid.upsample_channels),
            "inplanes": base.in_channels,
        },
        "shrink_header": {
            "kernal_size": list(base.shrink_sizes),
            "stride": list(base.shrink_strides),
            "padding": [size // 2 for size in base.shrink_sizes],
            "dim": list(base.shrink_channels),
            "input_dim": sum(pyramid.upsample_channels),
        },
        "in_head": base.shrink_channels[-1],
        "anchor_number": len(base.anchors.yaws_deg),
        "dir_args": directions,
    }


def _write_post(base: BaseConfig, directions: Plain) -> Plain:
    anchors = base.anchors
    return {
        "core_method": "VoxelPostprocessor",
        "gt_range": list(base.grid.range_m),
        "anchor_args": {
            "cav_lidar_range": list(base.grid.range_m),
            "l": anchors.length_m,
            "w": anchors.width_m,
            "h": anchors.height_m,
            "r": list(anchors.yaws_deg),
            "feature_stride": 2,
            "num": len(anchors.yaws_deg),
        },
        "target_args": {
            "pos_threshold": base.targets.positive_iou,
            "neg_threshold": base.targets.negative_iou,
            "score_threshold": base.decode.score_threshold,
        },
        "order": "hwl",
        "max_num": 100,
        "nms_thresh": base.decode.nms_iou,
        "dir_args": directions,
    }


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


def _leaves(tree: Plain, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and the value of every leaf."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
