"""Convert the blocks of HEAL's configuration that describe Lift-Splat to settings of this package, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from heal.config import ConfigError
from heal.encoders.images import ImageConfig
from heal.encoders.lift_splat import LiftSplatConfig
from heal.encoders.lift_splat_depth import DepthBinsConfig
from heal.opencood.lift_splat_weights import reference_trunk

# By HEAL's name of a trunk: timm's name, stride of its coarsest scale, drop path, momentum of its norms, and whether the checkpoint
# contains its classifier.
_TRUNKS: dict[str, tuple[str, int, float, float, bool]] = {
    "EfficientNet": ("tf_efficientnet_b0", 32, 0.2, 0.01, True),
    "Resnet101": ("resnet101", 8, 0.0, 0.1, False),
}
# The spacing of depth bins by HEAL's name.
SPACINGS: dict[str, Literal["linear", "uniform", "log"]] = {"LID": "linear", "UD": "uniform", "SID": "log"}


def read_lift_splat(reference: Mapping[str, Any]) -> LiftSplatConfig:
    """Convert the `encoder_args` of a camera modality; ConfigError for a setting that is not supported."""
    grid, images = reference["grid_conf"], reference["data_aug_conf"]
    if reference["camera_encoder"] not in _TRUNKS:
        raise ConfigError(f"camera_encoder: expected one of {', '.join(_TRUNKS)}, got {reference['camera_encoder']!r}")
    trunk, stride, drop_path, momentum, classifier = _TRUNKS[reference["camera_encoder"]]
    x, y, z = (grid[axis] for axis in ("xbound", "ybound", "zbound"))
    if x[2] != y[2] or abs((z[1] - z[0]) / z[2] - 1) > 1e-6:
        raise ConfigError(f"grid_conf: expected square cells and one layer, got xbound {x}, ybound {y}, zbound {z}")
    start, end, count = grid["ddiscr"]
    return LiftSplatConfig(
        cameras=tuple(images.get("cams", ()))[: images.get("Ncams")],
        image=_read_images(images),
        trunk=trunk,
        downsample=reference["img_downsample"],
        trunk_stride=max(stride, reference["img_downsample"]),
        drop_path=drop_path,
        norm_momentum=momentum,
        classifier=classifier,
        pretrained=classifier,
        channels=reference["img_features"],
        depth=DepthBinsConfig(start_m=start, end_m=end, count=count, spacing=SPACINGS[grid["mode"]]),
        depth_supervision=reference.get("depth_supervision", True),
        range_m=(x[0], y[0], z[0], x[1], y[1], z[1]),
        cell_m=x[2],
    )


def write_lift_splat(settings: LiftSplatConfig, image_px: tuple[int, int]) -> dict[str, Any]:
    """Return the `encoder_args` of a camera modality.

    Args:
        settings: the settings of the encoder.
        image_px: height and width of the data set's images.

    Raises:
        ConfigError: HEAL's own code has no such trunk, or normalises images differently.
    """
    x0, y0, z0, x1, y1, z1 = settings.range_m
    depth = settings.depth
    return {
        "anchor_number": 2,
        "grid_conf": {
            "xbound": [x0, x1, settings.cell_m],
            "ybound": [y0, y1, settings.cell_m],
            "zbound": [z0, z1, z1 - z0],
            "ddiscr": [depth.start_m, depth.end_m, depth.count],
            "mode": next(mode for mode, spacing in SPACINGS.items() if spacing == depth.spacing),
        },
        "data_aug_conf": {
            **_write_images(settings.image, image_px),
            "cams": list(settings.cameras),
            "Ncams": len(settings.cameras),
        },
        "img_downsample": settings.downsample,
        "img_features": settings.channels,
        "use_depth_gt": False,
        "depth_supervision": settings.depth_supervision,
        "camera_encoder": reference_trunk(settings.trunk),
    }


def _read_images(images: Mapping[str, Any]) -> ImageConfig:
    height, width = images["final_dim"]
    covering = max(height / images["H"], width / images["W"])
    return ImageConfig(
        size=(height, width),
        zoom=(images["resize_lim"][0] / covering, images["resize_lim"][1] / covering),
        bottom_cut=tuple(images["bot_pct_lim"]),
        rotate_deg=tuple(images["rot_lim"]),
        flip=images["rand_flip"],
    )


def _write_images(image: ImageConfig, image_px: tuple[int, int]) -> dict[str, Any]:
    if image.colours != "imagenet":
        raise ConfigError(f"encoder.image.colours: HEAL's own code normalises images as imagenet, got {image.colours}")
    covering = max(image.size[0] / image_px[0], image.size[1] / image_px[1])
    return {
        "resize_lim": [covering * zoom for zoom in image.zoom],
        "final_dim": list(image.size),
        "rot_lim": list(image.rotate_deg),
        "H": image_px[0],
        "W": image_px[1],
        "rand_flip": image.flip,
        "bot_pct_lim": list(image.bottom_cut),
    }
