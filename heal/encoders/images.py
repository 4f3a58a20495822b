"""Camera images as input of a network: resized, cropped and normalised, varied in training; with the new place of every pixel.

Pixel coordinates count from the image's upper left corner, x to the right and y down, as the intrinsic matrices do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from heal.config import config, later
from heal.errors import UserError
from heal.types import AgentFrame, CameraView, Float32, Float64

if TYPE_CHECKING:
    from PIL.Image import Resampling

# Mean and standard deviation of the colours of ImageNet, on which published trunks are trained.
COLOUR_MEAN, COLOUR_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Array = npt.NDArray[Any]


@config
class ImageConfig:
    """Settings of the preparation of images of any size; the defaults are those of the paper's m2 on OPV2V.

    In evaluation, an image is resized until it just covers `size`, and cut to `size`, centred in x. In training, the other settings
    vary this.

    Attributes:
        size: height and width of the network's input.
        zoom: least and greatest enlargement, relative to the enlargement with which the image just covers `size`.
        bottom_cut: least and greatest share of the height that is cut off at the bottom; evaluation uses their mean.
        rotate_deg: least and greatest rotation.
        flip: mirror an image with probability one half.
        colours: `imagenet` for numbers with mean 0 and standard deviation 1 over ImageNet's images, which most published trunks
            expect; `signed` for numbers from -1 to 1, which the trunk `tf_efficientnet_lite0` expects.
    """

    size: tuple[int, int] = (384, 512)
    zoom: tuple[float, float] = (1.015625, 1.09375)
    bottom_cut: tuple[float, float] = (0.0, 0.05)
    rotate_deg: tuple[float, float] = (-3.6, 3.6)
    flip: bool = False
    colours: Literal["imagenet", "signed"] = later("imagenet")


@dataclass(frozen=True)
class ImageTransform:
    """The steps that turn an image into an input: resize, then crop, then mirror, then rotate.

    Attributes:
        scale: the exact enlargement; `resized` is rounded.
        resized: width and height after resizing.
        crop: x0, y0, x1, y1 in the resized image; parts of the crop outside of the image are black.
        flip: mirror left and right.
        rotate_deg: about the crop's middle, counter-clockwise in the image.
    """

    scale: float
    resized: tuple[int, int]
    crop: tuple[int, int, int, int]
    flip: bool = False
    rotate_deg: float = 0.0

    def affine(self) -> Float64:
        """Return (2, 3): maps a pixel of the image to its pixel in the network's input."""
        x0, y0, x1, y1 = self.crop
        matrix = np.array([[self.scale, 0.0, -x0], [0.0, self.scale, -y0]])
        if self.flip:
            matrix = np.array([[-1.0, 0.0], [0.0, 1.0]]) @ matrix + np.array([[0, 0, x1 - x0], [0, 0, 0]])
        angle = np.radians(self.rotate_deg)
        rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        middle = np.array([x1 - x0, y1 - y0]) / 2
        matrix[:, 2] -= middle
        turned: Float64 = rotation @ matrix
        turned[:, 2] += middle
        return turned


def evaluation_transform(image_px: tuple[int, int], settings: ImageConfig) -> ImageTransform:
    """Return the transform of evaluation, without variation, for an image of a height and width."""
    return _transform(image_px, settings, _covering_scale(image_px, settings), float(np.mean(settings.bottom_cut)), 0.5)


def random_transform(image_px: tuple[int, int], settings: ImageConfig, rng: np.random.Generator) -> ImageTransform:
    """Draw a transform for training, for an image of a height and width; equal generators draw equal transforms."""
    low, high = (zoom * _covering_scale(image_px, settings) for zoom in settings.zoom)
    scale = float(rng.uniform(low, high))
    cut = float(rng.uniform(*settings.bottom_cut))
    place = float(rng.uniform(0.0, 1.0))
    flip = settings.flip and bool(rng.choice([False, True]))
    return _transform(image_px, settings, scale, cut, place, flip, float(rng.uniform(*settings.rotate_deg)))


def transform_pixels(pixels: Array, transform: ImageTransform, resample: Resampling | None = None) -> Array:
    """Apply a transform to an image.

    Args:
        pixels: (H, W, 3) uint8, or (H, W) uint8 or float32.
        transform: the steps to apply.
        resample: filter of the resizing, bicubic by default; a rotation takes the nearest pixel.

    Returns:
        An image of the same type and of the crop's size; zero outside of the original image.
    """
    from PIL import Image

    image = Image.fromarray(pixels)
    image = image.resize(transform.resized, Image.Resampling.BICUBIC if resample is None else resample).crop(transform.crop)
    if transform.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if transform.rotate_deg:
        image = image.rotate(transform.rotate_deg)
    return np.asarray(image)


def normalize_colours(image: Array, colours: Literal["imagenet", "signed"] = "imagenet") -> Float32:
    """Turn an image (H, W, 3) uint8 into (3, H, W) float32 as `ImageConfig.colours` says."""
    if colours == "signed":
        return np.ascontiguousarray(((image.astype(np.float32) - np.float32(127)) / np.float32(128)).transpose(2, 0, 1))
    mean, std = np.array(COLOUR_MEAN, np.float32), np.array(COLOUR_STD, np.float32)
    normalized: Float32 = ((image.astype(np.float32) / np.float32(255) - mean) / std).transpose(2, 0, 1)
    return np.ascontiguousarray(normalized)


@dataclass(frozen=True)
class CameraBatch:
    """The M images of several agents, agent after agent; agents may have different numbers of cameras.

    Attributes:
        images: (M, 3, h, w) float32, normalised.
        agent: (M,) int64, index of each image's agent.
        agents: number of agents.
        intrinsic: (M, 3, 3) float32, of the images before resizing.
        agent_SE3_camera: (M, 4, 4) float32; the camera's axes are x right, y down, z forward.
        shown_from_image: (M, 2, 3) float32, maps a pixel of the image before resizing to the pixel in `images`.
        depth_m: (M, h, w) float32 along the camera's z axis, zero without a measurement; None without depth images.
    """

    images: Tensor
    agent: Tensor
    agents: int
    intrinsic: Tensor
    agent_SE3_camera: Tensor
    shown_from_image: Tensor
    depth_m: Tensor | None = None

    def to(self, device: torch.device | str) -> CameraBatch:
        """Return the batch on a device."""
        return CameraBatch(
            images=self.images.to(device),
            agent=self.agent.to(device),
            agents=self.agents,
            intrinsic=self.intrinsic.to(device),
            agent_SE3_camera=self.agent_SE3_camera.to(device),
            shown_from_image=self.shown_from_image.to(device),
            depth_m=None if self.depth_m is None else self.depth_m.to(device),
        )


def camera_batch(
    frames: Sequence[AgentFrame],
    settings: ImageConfig,
    cameras: Sequence[str] = (),
    depth: bool = False,
    rng: np.random.Generator | None = None,
) -> CameraBatch:
    """Prepare the images of agents for a network.

    Args:
        frames: one for every agent.
        settings: size and variation.
        cameras: names of the cameras to use; if empty, all cameras of an agent.
        depth: include depth images if every view has one; in training, that is with `rng`, every view must have one.
        rng: varies the images in training; None in evaluation.

    Raises:
        ValueError: an agent has no camera images, lacks one of the named cameras, or in training lacks a depth image.
    """
    views = [views_of(frame, cameras) for frame in frames]
    flat = [view for agent_views in views for view in agent_views]
    if depth and rng is not None:
        _require_depth(frames, views)
    depth = depth and all(view.depth_m is not None for view in flat)
    shown = [_prepare_view(view, settings, depth, rng) for view in flat]
    counts = torch.tensor([len(agent_views) for agent_views in views], dtype=torch.int64)
    return CameraBatch(
        images=_stack([image for image, _, _ in shown]),
        agent=torch.repeat_interleave(counts),
        agents=len(frames),
        intrinsic=_stack([view.intrinsic for view in flat]),
        agent_SE3_camera=_stack([view.agent_SE3_camera for view in flat]),
        shown_from_image=_stack([affine for _, affine, _ in shown]),
        depth_m=_stack([depth_m for _, _, depth_m in shown if depth_m is not None]) if depth else None,
    )


def views_of(frame: AgentFrame, cameras: Sequence[str] = ()) -> tuple[CameraView, ...]:
    """Return the agent's views from the named cameras, in the order of the names; without names, all its views.

    Raises:
        ValueError: a named camera is missing, or the agent has no camera images.
    """
    by_name = {view.name: view for view in frame.cameras}
    if not by_name:
        raise UserError(
            f"agent {frame.agent_id!r} has no camera images, and its type needs them; read the data with sensors={{'camera'}}"
        )
    missing = [name for name in cameras if name not in by_name]
    if missing:
        raise UserError(f"agent {frame.agent_id!r} has the cameras {', '.join(by_name)}, but its type needs {', '.join(missing)}")
    return tuple(by_name[name] for name in cameras) or frame.cameras


def mirror_view(view: CameraView, negate: Literal["x", "y"] = "y") -> CameraView:
    """Return the view of a camera in a world that is mirrored together with the agent: y (or x) is negated in the agent's frame."""
    signs = np.array([-1.0, 1.0, 1.0, 1.0]) if negate == "x" else np.array([1.0, -1.0, 1.0, 1.0])
    intrinsic = view.intrinsic.copy()
    intrinsic[0, 1:] = -intrinsic[0, 1], view.image.shape[1] - intrinsic[0, 2]
    # Left and right are exchanged in the camera too, so that its pose stays a rotation.
    pose = np.diag(signs) @ view.agent_SE3_camera @ np.diag([-1.0, 1.0, 1.0, 1.0])
    depth_m = None if view.depth_m is None else np.ascontiguousarray(view.depth_m[:, ::-1])
    return CameraView(view.name, np.ascontiguousarray(view.image[:, ::-1]), intrinsic, pose, depth_m)


def rescale_view(view: CameraView, factor: float) -> CameraView:
    """Return the view of a camera in a world that is `factor` times as large: the same image, with larger depths."""
    pose = view.agent_SE3_camera.copy()
    pose[:3, 3] *= factor
    depth_m = None if view.depth_m is None else view.depth_m * np.float32(factor)
    return replace(view, agent_SE3_camera=pose, depth_m=depth_m)


def _covering_scale(image_px: tuple[int, int], settings: ImageConfig) -> float:
    """Return the enlargement with which an image of a height and width just covers the network's input."""
    return max(settings.size[0] / image_px[0], settings.size[1] / image_px[1])


def _transform(
    image_px: tuple[int, int],
    settings: ImageConfig,
    scale: float,
    bottom_cut: float,
    place: float,
    flip: bool = False,
    rotate_deg: float = 0.0,
) -> ImageTransform:
    """Return the transform to the network's input.

    Args:
        image_px: height and width of the image.
        settings: size of the input.
        scale: enlargement of the image.
        bottom_cut: share of the resized height that is cut off at the bottom; the rest of the excess is cut off at the top.
        place: share of the excess width that is cut off at the left, from 0 to 1.
        flip: mirror left and right.
        rotate_deg: rotation about the middle.
    """
    width, height = int(image_px[1] * scale), int(image_px[0] * scale)
    y0 = int((1 - bottom_cut) * height) - settings.size[0]
    x0 = int(place * max(0, width - settings.size[1]))
    crop = (x0, y0, x0 + settings.size[1], y0 + settings.size[0])
    return ImageTransform(scale, (width, height), crop, flip, rotate_deg)


def _prepare_view(
    view: CameraView, settings: ImageConfig, depth: bool, rng: np.random.Generator | None
) -> tuple[Float32, Float64, Float32 | None]:
    """Return the normalised image, the affine map of its pixels (`ImageTransform.affine`) and, with `depth`, the depth image."""
    from PIL import Image

    image_px = (view.image.shape[0], view.image.shape[1])
    transform = evaluation_transform(image_px, settings) if rng is None else random_transform(image_px, settings, rng)
    image = normalize_colours(transform_pixels(view.image, transform), settings.colours)
    if not depth or view.depth_m is None:
        return image, transform.affine(), None
    # Depths are not interpolated: between a car and the wall behind it there is no surface, but interpolation would make one.
    return image, transform.affine(), transform_pixels(view.depth_m, transform, Image.Resampling.NEAREST)


def _require_depth(frames: Sequence[AgentFrame], views: Sequence[Sequence[CameraView]]) -> None:
    """Raise ValueError if a view of an agent has no depth image."""
    for frame, agent_views in zip(frames, views, strict=True):
        for view in agent_views:
            if view.depth_m is None:
                raise UserError(
                    f"agent {frame.agent_id!r}: {view.name} has no depth image, and its type learns from them; read the data with "
                    "sensors={'camera', 'depth'}, or set encoder.depth_supervision=false"
                )


def _stack(arrays: Sequence[Array]) -> Tensor:
    """Stack arrays to a float32 tensor."""
    return torch.from_numpy(np.stack(arrays).astype(np.float32, copy=False))
