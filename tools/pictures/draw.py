"""Writes picture files: ticks in bird's-eye view, the ego alone beside all agents, animations, curves of precision over recall."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from heal.agents.records import TickResult
from heal.atomic_write import replacing
from heal.detection.metrics import ApResult, ap_text
from heal.tools.pictures.bev import render
from heal.tools.pictures.colors import palette
from heal.tools.pictures.margin import write_margin
from heal.tools.pictures.picture import picture_of
from heal.types import UInt8

MAX_ANIMATION_BYTES = 4_900_000


def draw_tick(result: TickResult, range_m: Sequence[float], path: Path, width_px: int = 1600, margin: str = "") -> None:
    """Write one tick in bird's-eye view as PNG.

    Args:
        result: a tick that was run with `RunOptions.keep_views`; without views there are boxes only.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max in the ego's frame.
        path: file to write.
        width_px: width of the image.
        margin: text below the picture.
    """
    save_image(render([picture_of(result, range_m)], width_px, margin), path)


def draw_comparison(
    fewer: TickResult,
    more: TickResult,
    range_m: Sequence[float],
    path: Path,
    width_px: int = 2400,
    captions: tuple[str, str] = ("the ego alone", "all together"),
    margin: str = "",
) -> None:
    """Write two results of one tick side by side as PNG.

    Args:
        fewer: result with fewer agents, such as the ego alone.
        more: result with more agents.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max in the ego's frame.
        path: file to write.
        width_px: width of the image.
        captions: of the two results.
        margin: text below the picture.

    Raises:
        ValueError: the results have different labels, so they are not of one tick.
    """
    if not torch.equal(fewer.ground_truth.ids, more.ground_truth.ids):
        raise ValueError(f"expected two results of one tick, got {fewer.scene_id} and {more.scene_id} with other labels")
    right = replace(picture_of(more, range_m), caption=captions[1])
    left = replace(picture_of(fewer, range_m), caption=captions[0], hidden=right.hidden)
    drawn_from = max(left.drawn_from, right.drawn_from)
    save_image(render([replace(each, drawn_from=drawn_from) for each in (left, right)], width_px, margin), path)


def draw_curves(results: ApResult, path: Path, margin: str = "") -> None:
    """Write the curves of precision over recall at every IoU threshold as PNG; the text `margin` stands below them.

    Of several classes the curves are over all detections, and their labels have the mean of the classes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for curve, color in zip(results.curves, ("#1f6feb", "#d9822b", "#8250df"), strict=False):
        name = "mean AP" if results.by_class else "AP"
        label = f"IoU {curve.iou_threshold:g}: {name} {ap_text(results.ap[curve.iou_threshold])}"
        axes.plot(curve.recall[:-1], curve.precision[:-1], label=label, color=color, linewidth=2)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    kind = f"objects of {len(results.by_class)} classes" if results.by_class else "vehicles"
    axes.set_title(f"{results.ground_truths} {kind} in {results.frames} scenes", fontsize=11)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower left")
    axes.spines[["top", "right"]].set_visible(False)
    write_margin(figure, margin)
    with replacing(path) as temporary:
        figure.savefig(temporary)


def draw_frame(result: TickResult, range_m: Sequence[float], width_px: int = 800, margin: str = "") -> UInt8:
    """Return one tick in bird's-eye view as an RGB image (H, W, 3) for `save_animation`, with the text `margin` below it.

    Frames are small, so they do not show what the cameras see.
    """
    return render([replace(picture_of(result, range_m), cameras=())], width_px, margin)


def save_image(image: UInt8, path: Path) -> None:
    """Write an RGB image (H, W, 3) as PNG."""
    from PIL import Image

    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary)


def save_animation(frames: Sequence[UInt8], path: Path, frame_ms: int = 200, max_bytes: int = MAX_ANIMATION_BYTES) -> None:
    """Write images as an animated GIF; leave out every other image, again and again, while the file is too large.

    Args:
        frames: RGB images (H, W, 3) of one size.
        path: file to write.
        frame_ms: time that each of `frames` is shown; images that are left in take over the time of those left out.
        max_bytes: largest size of the file, unless a single image is larger.
    """
    if frames:
        content = _encode_animation(frames, frame_ms, max_bytes)
        with replacing(path) as temporary:
            temporary.write_bytes(content)


def _encode_animation(frames: Sequence[UInt8], frame_ms: int, max_bytes: int) -> bytes:
    """Return the content of an animated GIF of at least one image; the arguments are those of `save_animation`."""
    from PIL import Image

    chosen = list(frames)
    colors = Image.new("P", (1, 1))
    colors.putpalette(palette().tobytes())
    while True:
        images = [Image.fromarray(frame).quantize(palette=colors, dither=Image.Dither.NONE) for frame in chosen]
        duration, buffer = frame_ms * round(len(frames) / len(chosen)), io.BytesIO()
        images[0].save(buffer, "gif", save_all=True, append_images=images[1:], duration=duration, loop=0, optimize=True)
        if buffer.tell() <= max_bytes or len(chosen) == 1:
            return buffer.getvalue()
        chosen = chosen[::2]
