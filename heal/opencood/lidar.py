"""Convert the blocks of HEAL's configuration that describe LiDAR encoders to settings of this package, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heal.config import ConfigError
from heal.encoders.point_pillars import PointPillarsConfig
from heal.encoders.second import POINT_CHANNELS, SecondConfig
from heal.grid import BevGrid
from heal.opencood.blocks import Plain


def read_point_pillars(block: Mapping[str, Any], voxels: Mapping[str, Any]) -> PointPillarsConfig:
    """Convert the `encoder_args` of a point_pillar modality.

    Args:
        block: the `encoder_args`.
        voxels: `preprocess.args` of the modality's setting, the limits of voxels; may be empty.

    Raises:
        ConfigError: a setting that is not supported.
    """
    layers, (size_x, size_y, size_z) = block["pillar_vfe"], block["voxel_size"]
    height = block["lidar_range"][5] - block["lidar_range"][2]
    if not layers["use_norm"] or abs(size_z - height) > 1e-6:
        raise ConfigError(
            f"encoder_args: expected use_norm true and pillars as high as the range ({height} m), "
            f"got {layers['use_norm']} and {size_z} m"
        )
    return PointPillarsConfig(
        pillar_m=(size_x, size_y),
        channels=tuple(layers["num_filters"]),
        absolute_xyz=layers["use_absolute_xyz"],
        distance=layers["with_distance"],
        **_renamed(voxels, max_points_per_voxel="max_points", max_voxel_train="max_pillars_train", max_voxel_test="max_pillars"),
    )


def write_point_pillars(settings: PointPillarsConfig, grid: BevGrid) -> tuple[Plain, Plain]:
    """Return the `encoder_args` of the modality, and `preprocess.args` of its setting."""
    size = [*settings.pillar_m, grid.range_m[5] - grid.range_m[2]]
    layers = {
        "use_norm": True,
        "with_distance": settings.distance,
        "use_absolute_xyz": settings.absolute_xyz,
        "num_filters": list(settings.channels),
    }
    block = {
        "voxel_size": size,
        "lidar_range": list(grid.range_m),
        "pillar_vfe": layers,
        "point_pillar_scatter": {"num_features": settings.channels[-1]},
    }
    voxels = {
        "voxel_size": size,
        "max_points_per_voxel": settings.max_points,
        "max_voxel_train": settings.max_pillars_train,
        "max_voxel_test": settings.max_pillars,
    }
    return block, voxels


def read_second(block: Mapping[str, Any], voxels: Mapping[str, Any]) -> SecondConfig:
    """Convert the `encoder_args` of a second modality; `voxels` as for `read_point_pillars`.

    The number of channels in `spconv.num_features_in` is ignored: the first kernel of the checkpoint has the true number.

    Raises:
        ConfigError: a setting that is not supported.
    """
    channels, folded = block["spconv"]["num_features_out"], block["map2bev"]["feature_num"]
    if folded % channels:
        raise ConfigError(f"encoder_args.map2bev.feature_num: expected a multiple of {channels}, num_features_out, got {folded}")
    return SecondConfig(
        voxel_m=tuple(block["voxel_size"]),
        map_channels=channels,
        height_cells=folded // channels,
        **_renamed(voxels, max_points_per_voxel="max_points", max_voxel_train="max_voxels_train", max_voxel_test="max_voxels"),
    )


def write_second(settings: SecondConfig, grid: BevGrid) -> tuple[Plain, Plain]:
    """Return the `encoder_args` of the modality, and `preprocess.args` of its setting."""
    size = list(settings.voxel_m)
    block = {
        "voxel_size": size,
        "lidar_range": list(grid.range_m),
        "mean_vfe": {"num_point_features": POINT_CHANNELS},
        "spconv": {"num_features_in": POINT_CHANNELS, "num_features_out": settings.map_channels},
        "map2bev": {"feature_num": settings.out_channels},
    }
    voxels = {
        "voxel_size": size,
        "max_points_per_voxel": settings.max_points,
        "max_voxel_train": settings.max_voxels_train,
        "max_voxel_test": settings.max_voxels,
    }
    return block, voxels


def _renamed(values: Mapping[str, Any], **names: str) -> Plain:
    """Return the values that are present, from HEAL's names to the names of this package."""
    return {name: values[heal_name] for heal_name, name in names.items() if heal_name in values}
