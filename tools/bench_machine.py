"""The machine's own speed, measured in the same run as everything that is held against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

from heal.tools.bench_row import BenchRow, Timing, timed

# The yardstick: one dense 3x3 convolution of the size of the paper's detection head.
CONV_IN, CONV_OUT, CONV_NY, CONV_NX = 384, 256, 128, 256
CONV_FLOPS = 2.0 * 9 * CONV_IN * CONV_OUT * CONV_NY * CONV_NX
GEMM_EDGE = 2048
COPIED_BYTES = 2**28


@dataclass(frozen=True)
class Precision:
    """How dense layers compute.

    Attributes:
        name: as it stands in the rows, "float32", "tf32" or "bfloat16".
        dtype: of their inputs.
    """

    name: str
    dtype: torch.dtype


FLOAT32, TF32, BFLOAT16 = (
    Precision("float32", torch.float32),
    Precision("tf32", torch.float32),
    Precision("bfloat16", torch.bfloat16),
)


def precisions_of(device: torch.device) -> tuple[Precision, ...]:
    """What is worth measuring on a device: everywhere float32; the others where the hardware has them."""
    if device.type == "cuda":
        return FLOAT32, TF32, BFLOAT16
    return FLOAT32, BFLOAT16


def use(precision: Precision) -> None:
    """Let torch multiply float32 as the precision says; half precision is autocast's matter."""
    exact = "ieee" if precision is FLOAT32 else "tf32"
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.fp32_precision = exact
        torch.backends.cudnn.conv.fp32_precision = exact  # type: ignore[attr-defined]


def finished(device: torch.device, call: Callable[[], object]) -> Callable[[], None]:
    """The call as one that returns when the device has done what it was told."""

    def wait() -> None:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return wait


@cache
def yardstick_flops_per_s(device: torch.device, precision: Precision) -> float:
    """Operations per second of the yardstick, with as many threads as torch now has."""
    use(precision)
    conv = torch.nn.Conv2d(CONV_IN, CONV_OUT, 3, padding=1, bias=False).to(device, precision.dtype).requires_grad_(False)
    conv = conv.to(memory_format=torch.channels_last)
    maps = torch.randn(1, CONV_IN, CONV_NY, CONV_NX).to(device, precision.dtype, memory_format=torch.channels_last)
    [timing] = timed(finished(device, lambda: conv(maps)), repeats=9, warm_up=2)
    return CONV_FLOPS / timing.seconds


def bench_machine(device: torch.device) -> list[BenchRow]:
    """The rows of the yardstick, of multiplying matrices, and of copying memory."""
    rows = []
    for precision in precisions_of(device):
        rate = yardstick_flops_per_s(device, precision)
        words = f"{rate / 1e9:.0f} GFLOP/s: {CONV_IN} to {CONV_OUT} channels on {CONV_NY} x {CONV_NX}, the yardstick"
        rows.append(BenchRow.of("machine/conv", Timing(CONV_FLOPS / rate, 0.0), words).of_flops(CONV_FLOPS, rate, precision.name))
        rows.append(_gemm(device, precision, rate))
    source, target = (torch.zeros(COPIED_BYTES // 4, device=device) for _ in range(2))
    [timing] = timed(finished(device, lambda: target.copy_(source)))
    return [*rows, BenchRow.of("machine/memory", timing, f"{2 * COPIED_BYTES / timing.seconds / 1e9:.1f} GB/s, read and written")]


def _gemm(device: torch.device, precision: Precision, rate: float) -> BenchRow:
    matrix, flops = torch.randn(GEMM_EDGE, GEMM_EDGE).to(device, precision.dtype), 2.0 * GEMM_EDGE**3
    [timing] = timed(finished(device, lambda: matrix @ matrix))
    words = f"{flops / timing.seconds / 1e9:.0f} GFLOP/s: {GEMM_EDGE} x {GEMM_EDGE} matrices"
    return BenchRow.of("machine/gemm", timing, words).of_flops(flops, rate, precision.name)
