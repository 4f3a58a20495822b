"""Camera images on their way into a network: resized, cropped, normalised, in training varied; and where every pixel went.

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

from heal.config import config
from heal.types import AgentFrame, CameraView, Float32, Float64

if TYPE_CHECKING:
    from PIL.Image import Resampling

# Mean and deviation of ImageNet's colours, which published trunks are trained on.
COLOUR_MEAN, COLOUR_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Array = npt.NDArray[Any]


@config
class ImageConfig:
    """What becomes of an image, of whatever size it is; the defaults are those of the paper's m2 on OPV2V.

    In evaluation it is shrunk until it just covers `size` and cut, centred in x. The other settings vary that in training.

    Attributes:
        size: height and width that the network sees.
        zoom: least and greatest enlargement, relative to the one that just covers `size`.
        bottom_cut: least and greatest share of the height that is cut off below; in evaluation their mean.
        rotate_deg: least and greatest rotation.
        flip: mirror an image with probability one half.
    """

    size: tuple[int, int] = (384, 512)
    zoom: tuple[float, float] = (1.015625, 1.09375)
    bottom_cut: tuple[float, float] = (0.0, 0.05)
    rotate_deg: tuple[float, float] = (-3.6, 3.6)
    flip: bool = False


@dataclass(frozen=True)
class ImageTransform:
    """Resize, then crop, then mirror, then rotate.

    Attributes:
        scale: the enlargement that was asked for; `resized` is rounded.
        resized: width and height after resizing.
        crop: x0, y0, x1, y1 in the resized image; what lies outside of it is black.
        flip: mirror left and right.
        rotate_deg: about the crop's middle, counter-clockwise as one looks at it.
    """

    scale: float
    resized: tuple[int, int]
    crop: tuple[int, int, int, int]
    flip: bool = False
    rotate_deg: float = 0.0

    def affine(self) -> Float64:
        """(2, 3): maps a pixel of the image to the pixel where it is shown."""
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
    """What happens to an image of a height and width when nothing is random."""
    return _transform(image_px, settings, _covering(image_px, settings), float(np.mean(settings.bottom_cut)), 0.5)


def random_transform(image_px: tuple[int, int], settings: ImageConfig, rng: np.random.Generator) -> ImageTransform:
    """A variation for training; equal generators give equal ones."""
    low, high = (zoom * _covering(image_px, settings) for zoom in settings.zoom)
    scale = float(rng.uniform(low, high))
    cut = float(rng.uniform(*settings.bottom_cut))
    place = float(rng.uniform(0.0, 1.0))
    flip = settings.flip and bool(rng.choice([False, True]))
    return _transform(image_px, settings, scale, cut, place, flip, float(rng.uniform(*settings.rotate_deg)))


def transform_pixels(pixels: Array, transform: ImageTransform, resample: Resampling | None = None) -> Array:
    """Apply a transform to an image.

    Args:
        pixels: (H, W, 3) uint8, or (H, W) uint8 or float32.
        transform: what to do.
        resample: filter of the resizing, bicubic by default; a rotation takes the nearest pixel.

    Returns:
        The same type, of the crop's size; zero where the image does not reach.
    """
    from PIL import Image

    image = Image.fromarray(pixels)
    image = image.resize(transform.resized, Image.Resampling.BICUBIC if resample is None else resample).crop(transform.crop)
    if transform.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if transform.rotate_deg:
        image = image.rotate(transform.rotate_deg)
    return np.asarray(image)


def normalize_colours(image: Array) -> Float32:
    """(H, W, 3) uint8 to (3, H, W) float32 with about mean 0 and deviation 1."""
    mean, std = np.array(COLOUR_MEAN, np.float32), np.array(COLOUR_STD, np.float32)
    normalized: Float32 = ((image.astype(np.float32) / np.float32(255) - mean) / std).transpose(2, 0, 1)
    return np.ascontiguousarray(normalized)


@dataclass(frozen=True)
class CameraBatch:
    """The images of several agents, agent after agent; agents may have different numbers of cameras. M images in all.

    Attributes:
        images: (M, 3, h, w) float32, normalised.
        agent: (M,) int64, whose image it is.
        agents: number of agents.
        intrinsic: (M, 3, 3) float32, of the images before they were resized.
        agent_SE3_camera: (M, 4, 4) float32; the camera's axes are x right, y down, z forward.
        shown_from_image: (M, 2, 3) float32, maps a pixel of the image before it was resized to the pixel in `images`.
        depth_m: (M, h, w) float32 along the camera's z axis, zero where nothing was measured; None without depth images.
    """

    images: Tensor
    agent: Tensor
    agents: int
    intrinsic: Tensor
    agent_SE3_camera: Tensor
    shown_from_image: Tensor
    depth_m: Tensor | None = None

    def to(self, device: torch.device | str) -> CameraBatch:
        """The same on another device."""
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
    """The images of agents, ready for a network.

    Args:
        frames: one for every agent.
        settings: size and variation.
        cameras: names of the cameras to use; all that an agent has if empty.
        depth: bring depth images along where every view has one; with `rng`, that is in training, every view must.
        rng: varies the images; None in evaluation.

    Raises:
        ValueError: an agent has none of the cameras, or no depth image to learn from.
    """
    views = [views_of(frame, cameras) for frame in frames]
    flat = [view for part in views for view in part]
    if depth and rng is not None:
        _require_depth(frames, views)
    depth = depth and all(view.depth_m is not None for view in flat)
    shown = [_show(view, settings, depth, rng) for view in flat]
    counts = torch.tensor([len(part) for part in views], dtype=torch.int64)
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
    """The agent's views from the named cameras, in the order of the names; ValueError if one is missing or there is none."""
    by_name = {view.name: view for view in frame.cameras}
    if not by_name:
        raise ValueError(
            f"agent {frame.agent_id!r} has no camera images, and its type needs them; read the data with sensors={{'camera'}}"
        )
    missing = [name for name in cameras if name not in by_name]
    if missing:
        raise ValueError(f"agent {frame.agent_id!r} has the cameras {', '.join(by_name)}, but its type needs {', '.join(missing)}")
    return tuple(by_name[name] for name in cameras) or frame.cameras


def mirror_view(view: CameraView, negate: Literal["x", "y"] = "y") -> CameraView:
    """What the camera would have seen in a world, and from an agent, whose y (or x) is negated."""
    signs = np.array([-1.0, 1.0, 1.0, 1.0]) if negate == "x" else np.array([1.0, -1.0, 1.0, 1.0])
    intrinsic = view.intrinsic.copy()
    intrinsic[0, 1:] = -intrinsic[0, 1], view.image.shape[1] - intrinsic[0, 2]
    # Left and right change places in the camera too, so that its pose stays a rotation.
    pose = np.diag(signs) @ view.agent_SE3_camera @ np.diag([-1.0, 1.0, 1.0, 1.0])
    depth_m = None if view.depth_m is None else np.ascontiguousarray(view.depth_m[:, ::-1])
    return CameraView(view.name, np.ascontiguousarray(view.image[:, ::-1]), intrinsic, pose, depth_m)


def rescale_view(view: CameraView, factor: float) -> CameraView:
    """What the camera would have seen in a world `factor` times as large: the same picture, from farther away."""
    pose = view.agent_SE3_camera.copy()
    pose[:3, 3] *= factor
    depth_m = None if view.depth_m is None else view.depth_m * np.float32(factor)
    return replace(view, agent_SE3_camera=pose, depth_m=depth_m)


def _covering(image_px: tuple[int, int], settings: ImageConfig) -> float:
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
    """Shrink, cut off a share of the bottom and whatever is left above, and `place` of what is too much at the left."""
    width, height = int(image_px[1] * scale), int(image_px[0] * scale)
    y0 = int((1 - bottom_cut) * height) - settings.size[0]
    x0 = int(place * max(0, width - settings.size[1]))
    crop = (x0, y0, x0 + settings.size[1], y0 + settings.size[0])
    return ImageTransform(scale, (width, height), crop, flip, rotate_deg)


def _show(
    view: CameraView, settings: ImageConfig, depth: bool, rng: np.random.Generator | None
) -> tuple[Float32, Float64, Float32 | None]:
    """The normalised image, where its pixels went, and its depth image if it is wanted."""
    from PIL import Image

    image_px = (view.image.shape[0], view.image.shape[1])
    transform = evaluation_transform(image_px, settings) if rng is None else random_transform(image_px, settings, rng)
    image = normalize_colours(transform_pixels(view.image, transform))
    if not depth or view.depth_m is None:
        return image, transform.affine(), None
    # The nearest depth: between a car and the wall behind it there is no surface, though a smoother filter would make one.
    return image, transform.affine(), transform_pixels(view.depth_m, transform, Image.Resampling.NEAREST)


def _require_depth(frames: Sequence[AgentFrame], views: Sequence[Sequence[CameraView]]) -> None:
    for frame, part in zip(frames, views, strict=True):
        for view in part:
            if view.depth_m is None:
                raise ValueError(
                    f"agent {frame.agent_id!r}: {view.name} has no depth image, and its type learns from them; read the data with "
                    "sensors={'camera', 'depth'}, or set encoder.depth_supervision=false"
                )


def _stack(arrays: Sequence[Array]) -> Tensor:
    return torch.from_numpy(np.stack(arrays).astype(np.float32, copy=False))
