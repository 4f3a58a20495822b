"""The overlap of hulls by which anchors are assigned, written out in full: `heal.detection.targets` computes it by windows."""

from torch import Tensor


def hull_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the overlap of axis-aligned hulls (N, 4) and (M, 4), x_min, y_min, x_max, y_max, each made a metre longer; (N, M)."""
    common = (a[:, None, 2:].minimum(b[None, :, 2:]) - a[:, None, :2].maximum(b[None, :, :2]) + 1).clamp(min=0).prod(dim=2)
    area_a, area_b = (a[:, 2:] - a[:, :2] + 1).prod(dim=1)[:, None], (b[:, 2:] - b[:, :2] + 1).prod(dim=1)
    return common / (area_a + area_b - common)
