"""The speed of the machine itself, measured in the same run as the rows that are compared with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch

from heal.device import EXACT, ROUNDED, set_float32_products
from heal.tools.benches.measure import BenchRow, Timing, timed

# The yardstick: one dense 3x3 convolution of the size of the paper's detection head.
CONV_IN, CONV_OUT, CONV_NY, CONV_NX = 384, 256, 128, 256
CONV_FLOPS = 2.0 * 9 * CONV_IN * CONV_OUT * CONV_NY * CONV_NX
GEMM_EDGE = 2048
COPIED_BYTES = 2**28


@dataclass(frozen=True)
class Precision:
    """A number format in which dense layers compute.

    Attributes:
        name: name in the rows: "float32", "tf32" or "bfloat16".
        dtype: dtype of the layers' inputs.
    """

    name: Literal["float32", "tf32", "bfloat16"]
    dtype: torch.dtype


FLOAT32, TF32, BFLOAT16 = (
    Precision("float32", torch.float32),
    Precision("tf32", torch.float32),
    Precision("bfloat16", torch.bfloat16),
)


def precisions_of(device: torch.device) -> tuple[Precision, ...]:
    """Return the precisions that are measured on a device: float32 and bfloat16, on a GPU also tf32."""
    if device.type == "cuda":
        return FLOAT32, TF32, BFLOAT16
    return FLOAT32, BFLOAT16


def set_float32_precision(precision: Precision) -> None:
    """Make a GPU compute float32 layers exactly for FLOAT32, otherwise in tf32. Autocast selects bfloat16, not this function."""
    set_float32_products(EXACT if precision is FLOAT32 else ROUNDED)


def synchronized(device: torch.device, call: Callable[[], object]) -> Callable[[], None]:
    """Return a function that runs the call, then waits until the device has finished it."""

    def wait() -> None:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return wait


@cache
def yardstick_flops_per_s(device: torch.device, precision: Precision) -> float:
    """Measure the yardstick's operations per second, once for each device and precision, with torch's present number of threads."""
    set_float32_precision(precision)
    conv = torch.nn.Conv2d(CONV_IN, CONV_OUT, 3, padding=1, bias=False).to(device, precision.dtype).requires_grad_(False)
    conv = conv.to(memory_format=torch.channels_last)
    maps = torch.randn(1, CONV_IN, CONV_NY, CONV_NX).to(device, precision.dtype, memory_format=torch.channels_last)
    [timing] = timed(synchronized(device, lambda: conv(maps)), repeats=9, warm_up=2)
    return CONV_FLOPS / timing.seconds


def bench_machine(device: torch.device) -> list[BenchRow]:
    """Measure a device: the yardstick and a matrix product in every precision, then the throughput of copying memory."""
    rows = []
    for precision in precisions_of(device):
        rate = yardstick_flops_per_s(device, precision)
        note = f"{rate / 1e9:.0f} GFLOP/s: {CONV_IN} to {CONV_OUT} channels on {CONV_NY} x {CONV_NX}, the yardstick"
        rows.append(BenchRow.of("machine/conv", Timing(CONV_FLOPS / rate, 0.0), note).of_flops(CONV_FLOPS, rate, precision.name))
        rows.append(_matrix_product(device, precision, rate))
    source, target = (torch.zeros(COPIED_BYTES // 4, device=device) for _ in range(2))
    [timing] = timed(synchronized(device, lambda: target.copy_(source)))
    note = f"{2 * COPIED_BYTES / timing.seconds / 1e9:.1f} GB/s, reading and writing"
    return [*rows, BenchRow.of("machine/memory", timing, note)]


def _matrix_product(device: torch.device, precision: Precision, yardstick: float) -> BenchRow:
    """Time the product of two square matrices; `yardstick` is in operations per second."""
    matrix, flops = torch.randn(GEMM_EDGE, GEMM_EDGE).to(device, precision.dtype), 2.0 * GEMM_EDGE**3
    [timing] = timed(synchronized(device, lambda: matrix @ matrix))
    note = f"{flops / timing.seconds / 1e9:.0f} GFLOP/s: {GEMM_EDGE} x {GEMM_EDGE} matrices"
    return BenchRow.of("machine/gemm", timing, note).of_flops(flops, yardstick, precision.name)
