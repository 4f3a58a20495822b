"""Turn the intensities of point clouds, stored in fields, types and scales of many kinds, into numbers from 0 to 1.

The scale belongs to the data set, not to one sweep: a dark sweep and a sweep with one odd value are read as all others are. Only a
field of single bytes names its scale by its type. OPV2V stores the intensity in the red byte of a packed `rgb` field; read as a
float, the field is tiny and often denormal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from heal.types import Float32, Float64

# In order of preference. A colour counts only where no intensity is stored.
INTENSITY_FIELDS = ("intensity", "intensities", "i", "reflectivity", "reflectance", "remission")
COLOUR_FIELDS = ("rgb", "rgba")
BYTE_TOP = 255.0
PERCENT = 100.0
TOPS = (BYTE_TOP, 1023.0, 4095.0, 65535.0)  # 8, 10, 12 and 16 bits
OVERSHOOT = 1.05  # a calibrated reflector may exceed the scale by a little
ODD_SHARE = 1000  # of so many values, one may lie outside of a scale
WRONG_SHARE = 20  # a sweep with more than one value of so many outside of the scale is on another scale


@dataclass(frozen=True)
class Defects:
    """Numbers of intensities that could not be taken as they are.

    Attributes:
        missing: no numbers (NaN); they read as 0.
        outside: beyond the scale; they read as 0 or 1.
    """

    missing: int = 0
    outside: int = 0


def intensity_fields(fields: Sequence[str]) -> list[str]:
    """Return the fields that may hold the intensity, the one to read first; empty if there is none."""
    return [name for name in (*INTENSITY_FIELDS, *COLOUR_FIELDS) if name in fields]


def common_top(values: npt.NDArray[Any], integers: bool) -> float | None:
    """Return the value that stands for 1 on the narrowest common scale that holds the intensities of a data set.

    The scales end at 1 (floats only), 100 (percent), 255, 1023, 4095 and 65535. A few odd values do not count: one of a thousand,
    or the largest value of a small sample unless a scale ends there. On the scale that ends at 1 nearly all values lie between 0
    and 1, which no other scale shares; there one odd value for three such values does not count.

    Args:
        values: (N,) finite intensities as stored, of as many sweeps as possible.
        integers: whether they are stored as integers.

    Returns:
        The value, or None if no common scale holds the intensities.
    """
    odd = max(len(values) // ODD_SHARE, 1 if values.size and values.max() not in TOPS else 0)
    if (values < 0).sum() > odd:
        return None
    beyond_one = int((values > OVERSHOOT).sum())
    if not integers and beyond_one * 3 <= int(((values > 0) & (values < 1)).sum()):
        return 1.0
    if values.size and PERCENT - 1 < values.max() <= PERCENT:
        return PERCENT
    return next((top for top in TOPS if (values > top * OVERSHOOT).sum() <= odd), None)


def to_unit(raw: npt.NDArray[Any], top: float) -> tuple[Float32, Defects]:
    """Scale intensities (N,) as stored to [0, 1] in float32.

    Args:
        raw: the intensities; NaN becomes 0, and a value beyond the scale the end of the scale.
        top: the value that stands for 1.

    Raises:
        ValueError: so many values lie beyond the scale that the sweep must be on another scale.
    """
    with np.errstate(over="ignore"):
        unit = raw.astype(np.float32)
    if top != 1.0:
        unit /= np.float32(top)
    if not unit.size or (unit.min() >= 0.0 and unit.max() <= 1.0):
        return unit, Defects()
    missing = np.isnan(unit)
    wrong = np.isfinite(unit) & ((unit < 0.0) | (unit > OVERSHOOT))
    if wrong.sum() > max(1, len(unit) // WRONG_SHARE):
        raise ValueError(
            f"{wrong.sum()} of {len(unit)} intensities lie beyond the data set's scale 0 to {top:g}; {range_text(raw)}"
        )
    unit[missing] = 0.0
    outside = int(((unit < 0.0) | (unit > 1.0)).sum())
    return unit.clip(0.0, 1.0), Defects(int(missing.sum()), outside)


def range_text(raw: npt.NDArray[Any]) -> str:
    """Return the range of some intensities as stored and what to do, for an error."""
    finite = raw[np.isfinite(raw)]
    span = f"{finite.min():g} to {finite.max():g}" if finite.size else "no number"
    return f"found {span}; give open_dataset the intensity_scale, the value that stands for 1"


def red_from_rgb(packed: npt.NDArray[Any], kind: np.dtype[Any] | None = None) -> Float32:
    """Return the red byte of packed colours as (N,) numbers in [0, 1].

    Args:
        packed: (N,) float32 or integers as stored, or float64 as printed in an ascii file.
        kind: the declared type; by default the type of `packed`. Floats are bit patterns, integers the colours themselves.
    """
    kind = kind or packed.dtype
    if kind.kind == "f":
        bits = packed.view(np.uint32) if packed.dtype == np.float32 else _float32_bits(packed)
    elif packed.dtype.kind == "f":
        bits = (np.nan_to_num(packed, posinf=0.0, neginf=0.0).astype(np.int64) & 0xFFFFFFFF).astype(np.uint32)
    else:
        bits = packed.astype(np.uint32)
    red: Float32 = ((bits >> 16) & 255).astype(np.float32) / np.float32(255.0)
    return red


def _float32_bits(printed: Float64) -> npt.NDArray[np.uint32]:
    """Return the bit patterns of float32 numbers that are given as float64; 0 for NaN, whose pattern is not printed."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        bits = np.nan_to_num(printed, posinf=np.inf, neginf=-np.inf).astype(np.float32).view(np.uint32)
    # Every float32 below 2^-125 is a multiple of 2^-149, and that multiple is its bit pattern. Computing it in float64 does
    # not depend on whether the processor flushes denormal float32 to zero.
    tiny = np.abs(printed) < 2.0**-125
    sign = np.signbit(printed[tiny]).astype(np.uint32) << 31
    bits[tiny] = sign | np.rint(np.abs(printed[tiny]) * 2.0**149).astype(np.uint32)
    return bits
