"""Picture files: a tick from above, the ego alone beside all together, an animation of a run, precision over recall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from heal.agents.records import TickResult
from heal.detection.metrics import ApResult
from heal.tools.pictures.bev import palette, picture_of, render
from heal.types import UInt8

MAX_ANIMATION_BYTES = 4_900_000


def draw_tick(result: TickResult, range_m: Sequence[float], path: Path, width_px: int = 1600) -> None:
    """Write one tick, seen from above, as PNG; run with `keep_views` to have clouds in it."""
    save_image(render([picture_of(result, range_m)], width_px), path)


def draw_comparison(alone: TickResult, together: TickResult, range_m: Sequence[float], path: Path, width_px: int = 2400) -> None:
    """Write one tick twice, side by side: as the ego sees it alone, and as all see it together.

    Raises:
        ValueError: the results are not of one tick.
    """
    if not torch.equal(alone.ground_truth.ids, together.ground_truth.ids):
        raise ValueError(f"expected two results of one tick, got {alone.scene_id} and {together.scene_id} with other labels")
    right = replace(picture_of(together, range_m), caption="all together")
    left = replace(picture_of(alone, range_m), caption="the ego alone", hidden=right.hidden)
    save_image(render([left, right], width_px), path)


def draw_curves(results: ApResult, path: Path) -> None:
    """Write precision over recall at every IoU threshold as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for curve, color in zip(results.curves, ("#1f6feb", "#d9822b", "#8250df"), strict=False):
        label = f"IoU {curve.iou_threshold:g}: AP {curve.ap:.3f}"
        axes.plot(curve.recall[:-1], curve.precision[:-1], label=label, color=color, linewidth=2)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.set_title(f"{results.ground_truths} vehicles in {results.frames} scenes", fontsize=11)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower left")
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def draw_frame(result: TickResult, range_m: Sequence[float], width_px: int = 800) -> UInt8:
    """One tick as a small image for `save_animation`."""
    return render([picture_of(result, range_m)], width_px)


def save_image(image: UInt8, path: Path) -> None:
    """Write an RGB image (H, W, 3) as PNG."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def save_animation(frames: Sequence[UInt8], path: Path, frame_ms: int = 200, max_bytes: int = MAX_ANIMATION_BYTES) -> None:
    """Write RGB images (H, W, 3) of one size as GIF, leaving out every other one, as often as needed, to stay below `max_bytes`."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = list(frames)
    colors = Image.new("P", (1, 1))
    colors.putpalette(palette().tobytes())
    while chosen:
        images = [Image.fromarray(frame).quantize(palette=colors, dither=Image.Dither.NONE) for frame in chosen]
        duration = frame_ms * round(len(frames) / len(chosen))
        images[0].save(path, save_all=True, append_images=images[1:], duration=duration, loop=0, optimize=True)
        if path.stat().st_size <= max_bytes or len(chosen) == 1:
            return
        chosen = chosen[::2]
