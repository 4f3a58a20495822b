"""Convert the blocks of HEAL's configuration that describe an agent type to settings of this package, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from heal.agent_model import AgentConfig
from heal.aligners.aligner import AlignerConfig, IdentityAlignerConfig
from heal.config import ConfigError, build_config, config, to_plain
from heal.grid import BevGrid, Range
from heal.layers.backbone import BackboneConfig
from heal.opencood.blocks import Plain, find_part, read_shrink, whole_numbers, write_shrink
from heal.opencood.lidar import read_point_pillars, read_second, write_point_pillars, write_second
from heal.opencood.lift_splat import read_lift_splat, write_lift_splat

# The input channels of HEAL's backbones where the configuration does not give them.
INPLANES = 64
# Settings of an aligner: HEAL's name -> our name.
_ALIGNER_SETTINGS = {"num_of_blocks": "blocks", "num_of_layers": "layers"}
# Arguments of an aligner in HEAL's configurations that no network reads.
_UNREAD = frozenset({"warpnet_indim"})
# Our kind of an encoder -> HEAL's name and the sensor that the encoder needs.
_KINDS = {"point_pillars": ("point_pillar", "lidar"), "second": ("second", "lidar"), "lift_splat": ("lift_splat_shoot", "camera")}
# The cameras to write for an encoder whose settings take all cameras of an agent.
_CAMERAS = ("camera0", "camera1", "camera2", "camera3")


@dataclass(frozen=True)
class ReadAgent:
    """An agent type read from HEAL's configuration.

    Attributes:
        config: settings of the agent type.
        cell_m: edge of the cells of its feature map, metres.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max that its alliance must have; None if any range will do.
    """

    config: AgentConfig
    cell_m: float
    range_m: Range | None


def read_agent(name: str, block: Mapping[str, Any], preprocess: Mapping[str, Any], plain: bool = False) -> ReadAgent:
    """Convert a modality, HEAL's word for an agent type.

    Args:
        name: name of the modality such as m1, for error messages.
        block: the block of this name in model.args.
        preprocess: `preprocess` of the modality in heter.modality_setting; may be empty.
        plain: whether the networks are those whose backbones are plain convolutions and shrink layers, without aligners.

    Raises:
        ConfigError: a setting that is not supported.
    """
    args = block["encoder_args"]
    encoder, cell_m = _read_encoder(name, block["core_method"], args, preprocess.get("args") or {})
    backbone = _read_backbone(name, block["backbone_args"], encoder.out_channels)
    if plain:
        shrink = find_part([block], "shrink_header", "kernal_size")
        backbone = replace(backbone, kind="plain", shrink=None if shrink is None else read_shrink(shrink))
        aligner: AlignerConfig = IdentityAlignerConfig()
    else:
        aligner = read_aligner(block["aligner_args"], backbone.out_channels)
    settings = AgentConfig(encoder=encoder, backbone=backbone, aligner=aligner)
    range_m = tuple(args["lidar_range"]) if "lidar_range" in args else None
    return ReadAgent(settings, round(cell_m * backbone.reduction, 9), range_m)


def _read_encoder(name: str, kind: str, args: Mapping[str, Any], voxels: Mapping[str, Any]) -> tuple[Any, float]:
    """Return the settings of an encoder, and the edge of a cell of its map in metres."""
    if kind == "point_pillar":
        return read_point_pillars(args, voxels), args["voxel_size"][0]
    if kind == "second":
        settings = read_second(args, voxels)
        return settings, args["voxel_size"][0] * settings.reduction
    if kind == "lift_splat_shoot":
        return read_lift_splat(args), args["grid_conf"]["xbound"][2]
    known = ", ".join(kind for kind, _ in _KINDS.values())
    raise ConfigError(f"{name}.core_method: expected one of {known}, got {kind!r}")


def _read_backbone(name: str, block: Mapping[str, Any], in_channels: int) -> BackboneConfig:
    if block.get("inplanes", INPLANES) != in_channels:
        raise ConfigError(
            f"{name}.backbone_args.inplanes: expected {in_channels}, the encoder's channels, got {block.get('inplanes', INPLANES)}"
        )
    return BackboneConfig(
        blocks=tuple(block["layer_nums"]),
        strides=tuple(block["layer_strides"]),
        channels=tuple(block["num_filters"]),
        upsample_strides=tuple(block.get("upsample_strides", ())),
        upsample_channels=tuple(block.get("num_upsample_filter", ())),
    )


@config
class _AlignerHolder:
    aligner: AlignerConfig


def read_aligner(block: Mapping[str, Any], channels: int) -> AlignerConfig:
    """Convert an `aligner_args` block for maps of `channels` channels; ConfigError for a setting that is not supported."""
    if block.get("spatial_align"):
        raise ConfigError("aligner_args.spatial_align: expected false, got true; no released network uses it")
    args = {name: value for name, value in (block.get("args") or {}).items() if name not in _UNREAD}
    dim = args.pop("dim", channels)
    if dim != channels:
        raise ConfigError(f"aligner_args.args.dim: expected {channels}, the backbone's channels, got {dim}")
    values = {"kind": block["core_method"], **{_ALIGNER_SETTINGS.get(name, name): value for name, value in args.items()}}
    return build_config(_AlignerHolder, {"aligner": values}, "aligner_args").aligner


def write_agent(settings: AgentConfig, grid: BevGrid, image_px: tuple[int, int]) -> tuple[Plain, Plain]:
    """Return a modality's blocks in model.args and in heter.modality_setting.

    Args:
        settings: settings of the agent type.
        grid: grid of its alliance.
        image_px: height and width of the data set's images.

    Raises:
        ConfigError: HEAL does not have the encoder.
    """
    if settings.encoder.kind not in _KINDS:
        raise ConfigError(f"HEAL has no encoder {settings.encoder.kind!r}, only {', '.join(_KINDS)}; choose other types by --types")
    kind, sensor = _KINDS[settings.encoder.kind]
    encoder, preparation = _write_encoder(settings.encoder, grid, image_px)
    block: Plain = {"core_method": kind, "sensor_type": sensor, "encoder_args": encoder}
    if sensor == "camera":
        block["camera_mask_args"] = {"cav_lidar_range": list(grid.range_m), "grid_conf": encoder["grid_conf"]}
    backbone = settings.backbone
    block["backbone_args"] = _write_backbone(backbone, settings.encoder.out_channels)
    if backbone.shrink is not None:
        block["shrink_header"] = write_shrink(backbone.shrink, backbone.joined_channels)
    block["aligner_args"] = _write_aligner(settings.aligner, backbone.out_channels)
    return block, {"sensor_type": sensor, "core_method": kind, **preparation}


def _write_encoder(settings: Any, grid: BevGrid, image_px: tuple[int, int]) -> tuple[Plain, Plain]:
    """Return the block `encoder_args`, and the entries of the modality setting that depend on the encoder."""
    if settings.kind == "lift_splat":
        block = write_lift_splat(settings, image_px)
        if not settings.cameras:
            block["data_aug_conf"] |= {"cams": list(_CAMERAS), "Ncams": len(_CAMERAS)}
        return block, {"grid_conf": block["grid_conf"], "data_aug_conf": block["data_aug_conf"]}
    block, voxels = write_second(settings, grid) if settings.kind == "second" else write_point_pillars(settings, grid)
    return block, {"preprocess": {"core_method": "SpVoxelPreprocessor", "args": voxels, "cav_lidar_range": list(grid.range_m)}}


def _write_backbone(settings: BackboneConfig, in_channels: int) -> Plain:
    block: Plain = {
        "layer_nums": list(settings.blocks),
        "layer_strides": list(settings.strides),
        "num_filters": list(settings.channels),
        "inplanes": in_channels,
    }
    if settings.upsample_channels:
        block |= {
            "upsample_strides": whole_numbers(settings.upsample_strides),
            "num_upsample_filter": list(settings.upsample_channels),
        }
    return block


def _write_aligner(settings: AlignerConfig, channels: int) -> Plain:
    heal_names = {name: heal_name for heal_name, name in _ALIGNER_SETTINGS.items()}
    values = to_plain(settings)
    kind = values.pop("kind")
    if kind == "identity":
        return {"core_method": kind}
    args = {heal_names[name]: value for name, value in values.items() if name in heal_names}
    return {"core_method": kind, "spatial_align": False, "args": {**args, "dim": channels}}
