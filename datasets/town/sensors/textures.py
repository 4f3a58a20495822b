"""Colours of the ground and of leaves: asphalt with lane markings, sidewalks, lawns, car parks, foliage."""

from __future__ import annotations

import numpy as np

from heal.datasets.town.sensors.patterns import float32_triple, smooth_noise, speckle
from heal.datasets.town.sensors.rows import take_rows, tinted
from heal.datasets.town.world.blocks import Block, BlockUse
from heal.datasets.town.world.paths import STOP_LINE_M
from heal.datasets.town.world.streets import Ring, Street, TownMap
from heal.types import BoolMask, Float32

_WHITE = float32_triple(0.72, 0.72, 0.68)
_NO_CROSSING = (1e6, 0.0)  # far from every street
_ZEBRA_M = (0.9, 3.7)  # beginning and end of a zebra crossing, from the edge of the crossing street


def road_colour(town: TownMap, uv: Float32, blur_m: Float32) -> Float32:
    """Return the colour of asphalt and road markings.

    Args:
        town: map of the town.
        uv: (N, 2) map positions.
        blur_m: (N,) size of a pixel on the ground, over which edges are blurred.

    Returns:
        (N, 3) linear RGB.
    """
    u, v = uv[:, 0], uv[:, 1]
    coarse = smooth_noise(u / 60.0, v / 60.0)
    fine = smooth_noise(u / 4.0, v / 4.0) - 0.5
    grain = smooth_noise(u / 0.45, v / 0.45) + smooth_noise(u / 0.9, v / 0.9 + 0.4) - 1.0
    near = np.clip(0.012 / blur_m, 0.0, 1.0)
    grey = 0.070 + 0.035 * coarse + 0.022 * fine * np.clip(6 * near, 0, 1) + 0.016 * grain * near
    grey = grey - 0.03 * _cracks(u, v) * np.clip(0.05 / blur_m, 0, 1)
    colour: Float32 = tinted(grey, float32_triple(1.0, 1.0, 1.03))
    worn = np.clip(0.55 + 0.6 * smooth_noise(u / 7.0 + 0.5, v / 7.0), 0.35, 1.0)
    paint = np.clip(_markings(town, uv, blur_m), 0.0, 1.0) * worn
    painted: Float32 = colour * (1 - paint)[:, None] + tinted(paint, _WHITE)
    return painted


def _cracks(u: Float32, v: Float32) -> Float32:
    """Return the share of crack (N,): thin dark lines where a slow noise passes its mean."""
    vein = np.abs(smooth_noise(u / 35.0 + 0.21, v / 35.0 + 0.73) - 0.5)
    cracks: Float32 = np.clip(1.0 - vein / 0.006, 0.0, 1.0).astype(np.float64)
    return cracks


def _markings(town: TownMap, uv: Float32, blur_m: Float32) -> Float32:
    """Return the share of paint (N,) at map positions (N, 2)."""
    inside_u = _inside(town.along_u, uv[:, 1], uv[:, 0])
    inside_v = _inside(town.along_v, uv[:, 0], uv[:, 1])
    paint = np.zeros(len(uv), np.float32)
    for streets, axis, crossed in ((town.along_u, 0, inside_v), (town.along_v, 1, inside_u)):
        for street in streets:
            along, lateral = uv[:, axis], uv[:, 1 - axis] - street.offset_m
            here = np.flatnonzero((np.abs(lateral) < street.half_m) & (along <= street.end_m) & ~crossed)
            if len(here):
                crossings = town.crossings_of(street)
                paint[here] = _street_paint(street, crossings, along[here], lateral[here], blur_m[here], town.drive_side)
    return paint if town.ring is None else _with_ring(paint, town.ring, uv, blur_m)


def _with_ring(paint: Float32, ring: Ring, uv: Float32, blur_m: Float32) -> Float32:
    """Return paint (N,) with the lines of a roundabout instead of the streets' within its outer kerb."""
    away = np.sqrt((uv * uv).sum(axis=1))
    angle = np.arctan2(uv[:, 1], uv[:, 0]) * np.float32(ring.outer_m)
    dashed = _line(away, ring.outer_m - 0.3, 0.3, blur_m) * _below(np.abs(_modulo(angle, 1.2) - 0.6), 0.3, blur_m)
    lines = np.maximum(_line(away, ring.inner_m + 0.35, 0.14, blur_m), dashed)
    return np.where(away < ring.outer_m, lines, paint)


def _inside(streets: tuple[Street, ...], across: Float32, along: Float32) -> BoolMask:
    """Return whether places on the ground lie on one of parallel streets, by coordinates (N,) across and along the streets."""
    inside = np.zeros(across.shape, np.bool_)
    for street in streets:
        inside |= (np.abs(across - street.offset_m) < street.half_m) & (along <= street.end_m)
    return inside


def _street_paint(
    street: Street, crossings: list[tuple[float, float]], along: Float32, lateral: Float32, blur_m: Float32, side: int
) -> Float32:
    """Return the share of paint (N,) on a street between its crossings.

    Args:
        street: the street.
        crossings: coordinate along the street of each crossing, and the distance from there to the crossing's edge.
        along: (N,) map coordinate along the street.
        lateral: (N,) distance from the centre line, signed.
        blur_m: (N,) size of a pixel on the ground.
        side: +1 where vehicles keep to the right, -1 to the left.
    """
    distances = np.stack([np.abs(along - middle) - half for middle, half in crossings or [_NO_CROSSING]])
    distance = distances.min(axis=0)
    after = np.array([middle for middle, _ in crossings or [_NO_CROSSING]], np.float32)[distances.argmin(axis=0)]
    behind_stop = _step(distance - STOP_LINE_M + 0.15, blur_m)
    dash = _below(np.abs(_modulo(along, 7.5) - 3.0), 1.5, blur_m)
    solid_near = np.maximum(dash, _below(distance, 18.0, blur_m))
    paint = _line(lateral, 0.0, 0.14, blur_m) * dash if street.lanes == 1 else _double_line(lateral, blur_m)
    for lane in range(1, street.lanes):
        paint = np.maximum(paint, _line(np.abs(lateral), lane * street.lane_m, 0.12, blur_m) * solid_near)
    edge = street.drive_m if street.parking_m > 0 else street.half_m - 0.3
    paint = np.maximum(paint, _line(np.abs(lateral), edge, 0.12, blur_m)) * behind_stop
    low, high = _ZEBRA_M
    in_zebra = _step(distance - low, blur_m) * _below(distance, high, blur_m)
    stripes = _below(np.abs(_modulo(lateral, 1.1) - 0.55), 0.28, blur_m) * _below(np.abs(lateral), street.half_m - 0.4, blur_m)
    # Vehicles towards the crossing drive on the side where `lateral` and the direction agree with the side of traffic.
    near_side = lateral * (side if street.axis == 0 else -side)
    coming = _step(np.where(after > along, near_side, -near_side), blur_m) * _below(np.abs(lateral), street.drive_m, blur_m)
    stop = _line(distance, STOP_LINE_M - 0.3, 0.35, blur_m) * coming
    painted: Float32 = np.maximum.reduce([paint, in_zebra * stripes, stop])
    return painted


def _double_line(lateral: Float32, blur_m: Float32) -> Float32:
    return np.maximum(_line(lateral, -0.14, 0.12, blur_m), _line(lateral, 0.14, 0.12, blur_m))


def _modulo(value: Float32, period: float) -> Float32:
    rest: Float32 = value - period * np.floor(value / period)
    return rest


def _step(value_m: Float32, blur_m: Float32) -> Float32:
    """Return 0 below 0 and 1 above 0, blurred over a pixel."""
    step: Float32 = np.clip(value_m / np.maximum(blur_m, 0.01) + 0.5, 0.0, 1.0)
    return step


def _below(value_m: Float32, limit_m: float, blur_m: Float32) -> Float32:
    """Return 1 below the limit and 0 above the limit, blurred over a pixel."""
    return _step(-(value_m - limit_m), blur_m)


def _line(position: Float32, middle: float, width: float, blur_m: Float32) -> Float32:
    """Return the share of a pixel that a line of `width` metres around `middle` covers."""
    share: Float32 = _step(width / 2 - np.abs(position - middle), blur_m) * np.minimum(1.0, width / np.maximum(blur_m, 0.01))
    return share


def block_colour(
    blocks: tuple[Block, ...], number: np.ndarray[tuple[int], np.dtype[np.uint16]], uv: Float32, blur_m: Float32
) -> Float32:
    """Return the colour of sidewalks along the kerbs and of lawns and car parks behind them.

    Args:
        blocks: all blocks of the town.
        number: (N,) number of the block at each position.
        uv: (N, 2) map positions.
        blur_m: (N,) size of a pixel on the ground, over which edges are blurred.

    Returns:
        (N, 3) linear RGB.
    """
    low = take_rows(np.array([block.low_uv for block in blocks], np.float32), number)
    high = take_rows(np.array([block.high_uv for block in blocks], np.float32), number)
    use = np.array([block.use for block in blocks])[number]
    from_kerb = np.minimum(uv - low, high - uv).min(axis=1)
    colour = _paving(uv, blur_m)
    ring = np.array([block.ring_m for block in blocks], np.float32)
    if ring.any():
        cut = ring[number]
        from_kerb = np.minimum(from_kerb, np.where(cut > 0, np.linalg.norm(uv, axis=1) - cut, np.float32(np.inf)))
    pavement = np.array([block.pavement_m for block in blocks], np.float32)[number]
    behind = from_kerb > pavement
    lawn = behind & ((use == BlockUse.PARK) | (use == BlockUse.HOUSES))
    colour[lawn] = _lawn(uv[lawn], blur_m[lawn])
    cars = behind & (use == BlockUse.CAR_PARK)
    grey = 0.10 + 0.04 * smooth_noise(uv[cars, 0] / 40.0, uv[cars, 1] / 40.0)
    colour[cars] = grey[:, None]
    edge = (np.abs(from_kerb - 0.15) < 0.15) & (pavement > 0)
    colour[edge] = colour[edge] * 0.3 + 0.7 * float32_triple(0.38, 0.38, 0.37)
    return colour


def _paving(uv: Float32, blur_m: Float32) -> Float32:
    """Return the colour (N, 3) of paving slabs with joints; the slabs differ slightly."""
    slab = 0.75
    i, j = np.floor(uv[:, 0] / slab), np.floor(uv[:, 1] / slab)
    shade = 0.27 + 0.05 * (speckle(i, j) - 0.5) + 0.06 * (smooth_noise(uv[:, 0] / 18.0, uv[:, 1] / 18.0) - 0.5)
    seam = np.abs(np.mod(uv / slab + 0.5, 1.0) - 0.5).min(axis=1) * slab
    joint = np.clip(1.0 - seam / np.maximum(0.02, 0.7 * blur_m), 0, 1) * np.clip(0.03 / blur_m, 0, 1)
    colour: Float32 = tinted(shade * (1 - 0.35 * joint), float32_triple(1.03, 1.0, 0.95))
    return colour


def _lawn(uv: Float32, blur_m: Float32) -> Float32:
    patches = smooth_noise(uv[:, 0] / 50.0, uv[:, 1] / 50.0)
    tufts = (smooth_noise(uv[:, 0] / 3.0, uv[:, 1] / 3.0) - 0.5) * np.clip(0.1 / blur_m, 0, 1)
    green = tinted(0.8 + 0.4 * patches + 0.35 * tufts, float32_triple(0.10, 0.17, 0.045))
    dry = np.clip(patches - 0.62, 0, 1)
    lawn: Float32 = green * (1 - dry)[:, None] + tinted(dry, float32_triple(0.26, 0.23, 0.11))
    return lawn


def leaf_colour(tint: Float32, position: Float32) -> Float32:
    """Return the colour (N, 3) of leaves: the tint (N, 3) with light and dark spots by world position (N, 3)."""
    x, y, z = position.T
    clumps = smooth_noise(0.9 * x + 0.31 * z, 0.9 * y - 0.43 * z)
    leaves = smooth_noise(1.9 * x + 0.83 * z, 1.9 * y - 1.13 * z)
    colour: Float32 = tint * (0.2 + 0.8 * clumps + 0.9 * leaves)[:, None]
    return colour
