"""Numbers of operations of fast layers, which torch's own counter does not know; a multiplication and an addition count as two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch


def _linear(_: Sequence[int], weight: Sequence[int], *__: Any, out_shape: Sequence[int], **___: Any) -> int:
    """Return the operations of a linear layer with a weight (out, in)."""
    return 2 * prod(out_shape) * weight[1]


def _attention(queries: Sequence[int], keys: Sequence[int], values: Sequence[int], *_: Any, **__: Any) -> int:
    """Return the operations of attention of queries (..., T, D) to keys (..., S, D) with values (..., S, E)."""
    return 2 * prod(queries[:-1]) * keys[-2] * (keys[-1] + values[-1])


FAST_LAYERS: dict[Any, Callable[..., int]] = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    FAST_LAYERS[torch.ops.mkldnn._linear_pointwise] = _linear
