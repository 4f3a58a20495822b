"""Convert the blocks of HEAL's configuration that describe a base to settings of this package, and back.

These are the blocks of `model.args` beside those of the agent types, and `postprocess`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heal.base_model import BaseConfig
from heal.config import ConfigError, build_config, to_plain
from heal.fusion.pyramid import PyramidConfig
from heal.grid import Range
from heal.layers.shrink import ShrinkConfig
from heal.opencood.agents import INPLANES, ReadAgent
from heal.opencood.blocks import Plain, find_part, read_shrink, whole_numbers, write_shrink
from heal.opencood.fusions import BASELINES, PLAIN, PYRAMIDS, read_fusion, write_fusion

# Constants of HEAL's post-processing: the largest extent of a box, and the limits of its height.
_EXTENT_M, _HEIGHTS_M = 6.0, (-3.0, 1.0)
# The groups of HEAL's ResNeXt blocks, a constant.
_GROUPS = 32
# The edge of a cell of the heads' map divided by that of HEAL's voxels, where the configuration does not give it.
_FEATURE_STRIDE = 2
# HEAL's key for a loss of every agent's own map. For Pyramid Fusion that is the foreground; that it stands for single heads in the
# other networks is assumed.
_SINGLE_HEADS = "supervise_single"


def read_base(model: str, args: Mapping[str, Any], agents: Mapping[str, ReadAgent], post: Mapping[str, Any]) -> BaseConfig:
    """Convert a base.

    Args:
        model: HEAL's name of the networks, `model.core_method`.
        args: `model.args`.
        agents: the agent types of `args`.
        post: `postprocess`; may be empty.

    Raises:
        ConfigError: a setting that is not supported.
    """
    (range_m, cell_m), width = _read_grid(args, agents, post), _read_width(agents)
    if model in BASELINES:
        single = model == PLAIN and bool(args.get(_SINGLE_HEADS))
        values: Plain = {"fusion": read_fusion(model, args, width), "single_heads": single}
        shrink = find_part([args], "shrink_header", "kernal_size")
    else:
        values = {"pyramid": to_plain(_read_pyramid(args["fusion_backbone"], width))}
        shrink = dict(args["shrink_header"])
    values |= {
        "grid": {"range_m": range_m, "cell_m": cell_m},
        "in_channels": width,
        "direction_bins": args["dir_args"]["num_bins"],
        **_read_shrink(shrink),
        **_read_post(post, args, cell_m),
    }
    return build_config(BaseConfig, values, "HEAL configuration")


def _read_shrink(block: Plain | None) -> Plain:
    """Convert the block of the layers between fusion and heads; None for no layers."""
    if block is None:
        return {"shrink_channels": ()}
    return {f"shrink_{name}": value for name, value in to_plain(read_shrink(block)).items()}


def _read_grid(args: Mapping[str, Any], agents: Mapping[str, ReadAgent], post: Mapping[str, Any]) -> tuple[Range, float]:
    """Return the range and the edge of a cell of the agents' maps, metres; ConfigError if those of two agent types differ."""
    cells = {part.cell_m for part in agents.values()}
    ranges = {part.range_m for part in agents.values() if part.range_m}
    given = args.get("lidar_range") or (None if ranges else post["anchor_args"]["cav_lidar_range"])
    if given:
        ranges.add(tuple(given))
    if len(cells) != 1 or len(ranges) != 1:
        raise ConfigError(f"model.args: expected one range and one size of cells, got ranges {ranges} and cells of {cells} m")
    return ranges.pop(), cells.pop()


def _read_width(agents: Mapping[str, ReadAgent]) -> int:
    """Return the channels of the agents' maps."""
    widths = {part.config.backbone.out_channels for part in agents.values()}
    if len(widths) != 1:
        raise ConfigError(f"model.args: expected maps with one number of channels, the agent types send {sorted(widths)}")
    return widths.pop()


def _read_pyramid(fusion: Mapping[str, Any], width: int) -> PyramidConfig:
    if fusion.get("align_corners"):
        raise ConfigError("model.args.fusion_backbone.align_corners: expected false, got true; it is not supported")
    if fusion.get("inplanes", INPLANES) != width:
        raise ConfigError(f"model.args: agents send {width} channels, the pyramid takes {fusion.get('inplanes', INPLANES)}")
    return PyramidConfig(
        blocks=tuple(fusion["layer_nums"]),
        strides=tuple(fusion["layer_strides"]),
        channels=tuple(fusion["num_filters"]),
        groups=_GROUPS if fusion.get("resnext") else 0,
        upsample_strides=tuple(fusion["upsample_strides"]),
        upsample_channels=tuple(fusion["num_upsample_filter"]),
    )


def _read_post(post: Mapping[str, Any], args: Mapping[str, Any], cell_m: float) -> Plain:
    """Convert `postprocess` to anchors, targets and decoding; a missing block leaves the paper's defaults."""
    decode: Plain = {"direction_offset_rad": args["dir_args"]["dir_offset"], "max_extent_m": _EXTENT_M, "z_limits_m": _HEIGHTS_M}
    if not post:
        return {"decode": decode}
    sizes, target = post["anchor_args"], post["target_args"]
    if post.get("order", "hwl") != "hwl" or len(sizes["r"]) != args["anchor_number"]:
        raise ConfigError(
            f"postprocess: expected order hwl and {args['anchor_number']} anchors per cell, got {post.get('order')} and yaws "
            f"{sizes['r']}"
        )
    decode |= {"score_threshold": target["score_threshold"], "nms_iou": post["nms_thresh"]}
    stride = sizes.get("feature_stride", _FEATURE_STRIDE)
    return {
        "anchors": {
            "length_m": sizes["l"],
            "width_m": sizes["w"],
            "height_m": sizes["h"],
            "yaws_deg": sizes["r"],
            # HEAL's outermost anchors lie a voxel away from the border, which is half a cell only if a cell is two voxels wide.
            "margin_m": None if stride == _FEATURE_STRIDE else round(cell_m / stride, 9),
        },
        "targets": {"positive_iou": target["pos_threshold"], "negative_iou": target["neg_threshold"]},
        "decode": decode,
    }


def write_base(base: BaseConfig, names: list[str]) -> tuple[str, Plain]:
    """Return HEAL's name of the networks, and the blocks of `model.args` that describe a base.

    Args:
        base: settings of the base.
        names: names of the agent types.

    Raises:
        ConfigError: HEAL does not have the fusion.
    """
    args: Plain = {"ego_modality": "&".join(names), "lidar_range": list(base.grid.range_m)}
    if base.fusion is None:
        model = PYRAMIDS[0]
        args |= {_SINGLE_HEADS: True, "fusion_backbone": _write_pyramid(base)}
    else:
        model, blocks = write_fusion(base.fusion, base.in_channels, base.grid)
        args |= blocks | ({_SINGLE_HEADS: True} if base.single_heads and model == PLAIN else {})
    width = sum(getattr(base.fused_by, "upsample_channels", ())) or base.in_channels
    if base.shrink_channels:
        layers = ShrinkConfig(channels=base.shrink_channels, sizes=base.shrink_sizes, strides=base.shrink_strides)
        args["shrink_header"] = write_shrink(layers, width)
        width = base.shrink_channels[-1]
    return model, {**args, "in_head": width, "anchor_number": len(base.anchors.yaws_deg), "dir_args": write_directions(base)}


def _write_pyramid(base: BaseConfig) -> Plain:
    pyramid = base.pyramid
    return {
        "resnext": bool(pyramid.groups),
        "layer_nums": list(pyramid.blocks),
        "layer_strides": list(pyramid.strides),
        "num_filters": list(pyramid.channels),
        "upsample_strides": whole_numbers(pyramid.upsample_strides),
        "num_upsample_filter": list(pyramid.upsample_channels),
        "inplanes": base.in_channels,
    }


def write_directions(base: BaseConfig) -> Plain:
    """Return the block `dir_args`."""
    return {
        "dir_offset": base.decode.direction_offset_rad,
        "num_bins": base.direction_bins,
        "anchor_yaw": list(base.anchors.yaws_deg),
    }


def write_preprocess(base: BaseConfig) -> Plain:
    """Return the block `preprocess`, from which HEAL's anchors read the range and the size of voxels."""
    z_min, z_max = base.grid.range_m[2], base.grid.range_m[5]
    edge = base.grid.cell_m / 2 if base.anchors.margin_m is None else base.anchors.margin_m
    args = {"voxel_size": [edge, edge, z_max - z_min], "max_points_per_voxel": 1, "max_voxel_train": 1, "max_voxel_test": 1}
    return {"core_method": "SpVoxelPreprocessor", "args": args, "cav_lidar_range": list(base.grid.range_m)}


def write_post(base: BaseConfig) -> Plain:
    """Return the block `postprocess`."""
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
            "feature_stride": _FEATURE_STRIDE if anchors.margin_m is None else round(base.grid.cell_m / anchors.margin_m),
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
        "dir_args": write_directions(base),
    }
