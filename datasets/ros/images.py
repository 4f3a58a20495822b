"""Camera images, depth images and camera matrices as messages."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from heal.datasets.files import MAX_PIXELS, decode_image, encode_image
from heal.datasets.ros.messages import CAMERA_INFO, COMPRESSED, IMAGE, Messages
from heal.types import CameraView, Float32, Float64, UInt8

ImageForm = Literal["png", "jpeg", "raw"]
_DEPTH_FLOAT, _DEPTH_MM = "32FC1", "16UC1"  # metres and millimetres, as REP 118 has them
# Encoding -> channels, and which of them are red, green and blue.
_COLOURS = {
    "rgb8": (3, [0, 1, 2]),
    "bgr8": (3, [2, 1, 0]),
    "rgba8": (4, [0, 1, 2]),
    "bgra8": (4, [2, 1, 0]),
    "8UC3": (3, [2, 1, 0]),
    "mono8": (1, [0, 0, 0]),
    "8UC1": (1, [0, 0, 0]),
}
_DEPTHS: dict[str, tuple[str, float]] = {_DEPTH_FLOAT: ("f4", 1.0), _DEPTH_MM: ("u2", 0.001)}


def image_message(messages: Messages, header: Any, image: UInt8, form: ImageForm) -> Any:
    """Make the message of an image (H, W, 3) uint8 RGB: an Image for "raw", else a CompressedImage; JPEG loses a little."""
    if form == "raw":
        return _raw(messages, header, "rgb8", image)
    data = np.frombuffer(encode_image(image, form), np.uint8)
    return messages.make(COMPRESSED, header=header, format=f"rgb8; {form} compressed rgb8", data=data)


def depth_message(messages: Messages, header: Any, depth_m: Float32) -> Any:
    """Make the Image of depths (H, W) float32 in metres, to the last bit."""
    return _raw(messages, header, _DEPTH_FLOAT, np.ascontiguousarray(depth_m, "<f4"))


def _raw(messages: Messages, header: Any, encoding: str, pixels: npt.NDArray[Any]) -> Any:
    data = np.ascontiguousarray(pixels).view(np.uint8).reshape(-1)
    height, width = pixels.shape[:2]
    shape = {"height": height, "width": width, "step": data.size // max(height, 1)}
    return messages.make(IMAGE, header=header, encoding=encoding, is_bigendian=0, data=data, **shape)


def info_message(messages: Messages, header: Any, view: CameraView) -> Any:
    """Make the CameraInfo of a camera without distortion."""
    roi = {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False}
    height, width = view.image.shape[:2]
    return messages.make(
        CAMERA_INFO,
        header=header,
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=view.intrinsic.reshape(-1),
        r=np.eye(3).reshape(-1),
        p=np.column_stack([view.intrinsic, np.zeros(3)]).reshape(-1),
        binning_x=0,
        binning_y=0,
        roi=messages.make("sensor_msgs/msg/RegionOfInterest", **roi),
    )


def intrinsic_of(message: Any) -> Float64:
    """Return the camera matrix (3, 3) of a CameraInfo; ValueError if the camera is not calibrated."""
    intrinsic = np.asarray(message.k, np.float64).reshape(3, 3)
    if not (np.isfinite(intrinsic).all() and intrinsic[0, 0] > 0 and intrinsic[1, 1] > 0):
        raise ValueError(f"expected a camera matrix with focal lengths, got {intrinsic.tolist()}; the camera is not calibrated")
    return intrinsic


def image_of(message: Any, kind: str) -> UInt8:
    """Return the pixels (H, W, 3) uint8 RGB of an Image or a CompressedImage; ValueError for an encoding that is not read."""
    if kind == COMPRESSED:
        return decode_image(message.data.tobytes())
    if message.encoding not in _COLOURS:
        raise ValueError(f"expected an encoding among {', '.join(_COLOURS)}, got {message.encoding!r}")
    channels, order = _COLOURS[message.encoding]
    return np.ascontiguousarray(_pixels(message, np.dtype("u1"), channels)[..., order])


def depth_of(message: Any) -> Float32:
    """Return the depths (H, W) float32 in metres of an Image; ValueError for an encoding that is no depth."""
    if message.encoding not in _DEPTHS:
        raise ValueError(f"expected depths as {' or '.join(_DEPTHS)}, got the encoding {message.encoding!r}")
    name, step_m = _DEPTHS[message.encoding]
    values = _pixels(message, np.dtype(name).newbyteorder(">" if message.is_bigendian else "<"), 1)[..., 0]
    return np.asarray(values * step_m, np.float32) if step_m != 1.0 else values.astype(np.float32)


def _pixels(message: Any, dtype: np.dtype[Any], channels: int) -> npt.NDArray[Any]:
    """Return the values (H, W, channels) of an Image; its rows may have bytes to spare."""
    height, width, step = message.height, message.width, message.step
    row = width * channels * dtype.itemsize
    if not 0 < height * width <= MAX_PIXELS or step < row or len(message.data) < (height - 1) * step + row:
        raise ValueError(
            f"{width} x {height} pixels of {channels} {dtype.name} and rows of {step} bytes do not fit into "
            f"{len(message.data)} bytes, or are more than {MAX_PIXELS}"
        )
    strides = (step, channels * dtype.itemsize, dtype.itemsize)
    pixels: npt.NDArray[Any] = np.ndarray((height, width, channels), dtype, message.data, 0, strides)
    return pixels
