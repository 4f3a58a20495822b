"""The curves of HEAL's paper, for the figures of sweeps: AP on OPV2V-H against the error of poses, and against compression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heal.errors import UserError

CITATION = "HEAL, ICLR 2024"
_ERRORS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # standard deviation, metres and degrees
_RATIOS = (1, 2, 4, 8, 16, 32)  # how many times smaller a feature map becomes


@dataclass(frozen=True)
class PublishedCurve:
    """A curve of one method.

    Attributes:
        method: name of the method in the paper.
        x: the places of its points on the x axis of the sweep.
        ap: AP at these places, by IoU threshold.
    """

    method: str
    x: tuple[float, ...]
    ap: Mapping[str, tuple[float, ...]]

    @property
    def label(self) -> str:
        """The name in a legend."""
        return f"{self.method} on OPV2V-H ({CITATION})"


def published_curves(kind: str, float32_bytes: int) -> Sequence[PublishedCurve]:
    """Return the published curves that belong to a sweep; compressed messages have a part of the bytes of a float32 map.

    Raises:
        UserError: the paper has no curve for the sweep.
    """
    if kind == "noise":
        return [PublishedCurve(method, _ERRORS, ap) for method, ap in _POSE_NOISE.items()]
    if kind == "codec":
        sizes = tuple(float32_bytes / ratio for ratio in _RATIOS)
        return [PublishedCurve(method, sizes, ap) for method, ap in _COMPRESSION.items()]
    raise UserError(f"--published: the paper has curves for the sweeps noise and codec, and none for {kind}")


_POSE_NOISE: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "HEAL": {"0.5": (0.894, 0.869, 0.802, 0.747, 0.716, 0.692), "0.7": (0.813, 0.712, 0.586, 0.532, 0.523, 0.524)},
    "HM-ViT": {"0.5": (0.876, 0.855, 0.79, 0.72, 0.682, 0.652), "0.7": (0.755, 0.667, 0.515, 0.427, 0.399, 0.386)},
    "V2X-ViT": {"0.5": (0.882, 0.859, 0.8, 0.743, 0.688, 0.652), "0.7": (0.753, 0.685, 0.582, 0.512, 0.481, 0.459)},
    "CoBEVT": {"0.5": (0.885, 0.862, 0.793, 0.715, 0.663, 0.634), "0.7": (0.742, 0.646, 0.499, 0.421, 0.398, 0.388)},
}
_COMPRESSION: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "HEAL": {"0.5": (0.894, 0.896, 0.897, 0.897, 0.888, 0.879), "0.7": (0.813, 0.821, 0.824, 0.822, 0.818, 0.806)},
    "HM-ViT": {"0.7": (0.755, 0.732, 0.732, 0.743, 0.734, 0.735)},
    "V2X-ViT": {"0.7": (0.753, 0.737, 0.744, 0.741, 0.737, 0.721)},
    "CoBEVT": {"0.7": (0.742, 0.731, 0.728, 0.736, 0.737, 0.724)},
}
