"""Colours of walls: bricks, plaster, concrete or glass, with rows of windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heal.datasets.town.sensors.patterns import float32_triple, smooth_noise, speckle
from heal.datasets.town.sensors.rows import put_rows, take_rows, tinted
from heal.datasets.town.world.buildings import FACADES, HOUSE_NUMBERS, Facade
from heal.types import BoolMask, Float32, Int64

STOREY_M = 3.2


@dataclass(frozen=True)
class WallTexture:
    """Texture of N points on walls: linear RGB (N, 3), and the share of mirror-like reflection (N,)."""

    colour: Float32
    mirror: Float32


def wall_texture(tint: Float32, style: Int64, st: Float32, blur_m: Float32) -> WallTexture:
    """Return the texture of facades.

    Args:
        tint: (N, 3) colour of the wall.
        style: (N,) pattern and number of the building, see `Facade`.
        st: (N, 2) metres along the wall and above its base.
        blur_m: (N,) size of a pixel on the wall.
    """
    pattern, number = style % FACADES, style // FACADES
    s, t = st[:, 0], st[:, 1]
    colour = _masonry(tint, pattern, number, s, t, blur_m)
    stain = 0.86 + 0.2 * smooth_noise(s / 25.0 + 0.13 * number, t / 40.0)
    colour = colour * stain[:, None] * (1 - 0.25 * np.clip(1 - t / 0.6, 0, 1))[:, None]
    mirror = np.zeros(len(s), np.float32)
    windowed = np.flatnonzero((pattern != Facade.BLANK) & (t > 0))
    at = _windows(pattern[windowed], number[windowed], s[windowed], t[windowed], blur_m[windowed])
    glass, frame, pane = at.glass, at.frame, _behind_glass(at, number[windowed])
    under = take_rows(colour, windowed)
    framed = under * (1 - frame)[:, None] + tinted(frame, float32_triple(0.62, 0.61, 0.58))
    put_rows(colour, windowed, framed * (1 - glass)[:, None] + glass[:, None] * pane)
    mirror[windowed] = 0.6 * glass
    return WallTexture(colour, mirror)


def _masonry(tint: Float32, pattern: Int64, number: Int64, s: Float32, t: Float32, blur_m: Float32) -> Float32:
    """Return the colour (N, 3) of the wall itself, without its windows: bricks with joints, or slabs of concrete with joints."""
    sharp = np.clip(0.05 / blur_m, 0.0, 1.0)
    row = np.floor(t / 0.085)
    brick = np.floor(s / 0.25 + 0.5 * np.mod(row, 2))
    shade = speckle(brick, row, 7) - 0.5
    joint = (np.mod(t, 0.085) < 0.014) | (np.mod(s + 0.125 * np.mod(row, 2), 0.25) < 0.014)
    is_brick = (pattern == Facade.BRICK) | ((pattern == Facade.BLANK) & (number == 1))
    rough = 1 + is_brick * sharp * (0.5 * shade) + (~is_brick) * 0.08 * (smooth_noise(s / 3.0, t / 3.0) - 0.5)
    colour = tint * rough[:, None]
    mortar = (is_brick & joint) * sharp
    colour = colour * (1 - 0.5 * mortar)[:, None] + tinted(0.5 * mortar, float32_triple(0.42, 0.40, 0.37))
    slab = (pattern == Facade.CONCRETE) & (
        np.minimum(np.mod(t, STOREY_M), np.mod(s, 2 * STOREY_M)) < np.maximum(0.04, 0.5 * blur_m)
    )
    colour[slab] *= 0.72
    result: Float32 = colour.astype(np.float32)
    return result


def window_light(style: Int64, st: Float32, blur_m: Float32) -> Float32:
    """Return the light (N, 3) that comes out of the windows of facades at night; the arguments are those of `wall_texture`."""
    pattern, number = style % FACADES, style // FACADES
    light = np.zeros((len(style), 3), np.float32, order="F")
    windowed = np.flatnonzero((pattern != Facade.BLANK) & (st[:, 1] > 0))
    number = number[windowed]
    at = _windows(pattern[windowed], number, st[windowed, 0], st[windowed, 1], blur_m[windowed])
    lit = (speckle(at.column + 31 * number, at.floor, 11) > 0.72) | (at.shop & (speckle(number, number * 0 + 23) > 0.5))
    warmth = speckle(at.column + 7 * number, at.floor, 29)[:, None]
    colour = (1 - warmth) * float32_triple(0.30, 0.20, 0.10) + warmth * float32_triple(0.24, 0.22, 0.17)
    put_rows(light, windowed, colour * (lit * at.glass * (0.35 + 0.65 * speckle(at.column, at.floor, 31)))[:, None])
    return light


@dataclass(frozen=True)
class _Windows:
    """Places of N points in the windows of walls.

    Attributes:
        glass: (N,) share of glass.
        frame: (N,) share of window frame.
        column: (N,) number of the window from the wall's beginning.
        floor: (N,) number of the storey.
        rise: (N,) metres above the storey's floor.
        low: (N,) height of the window's lower edge above the floor.
        high: (N,) height of its upper edge.
        shop: (N,) whether it is a shop window.
    """

    glass: Float32
    frame: Float32
    column: Float32
    floor: Float32
    rise: Float32
    low: Float32
    high: Float32
    shop: BoolMask


def _windows(pattern: Int64, number: Int64, s: Float32, t: Float32, blur_m: Float32) -> _Windows:
    """Return where points on walls lie in their windows."""
    chance = speckle(number, number * 0 + 3)
    pitch = np.where(pattern == Facade.GLASS, 1.5, 2.1 + 1.9 * chance)
    width = np.where(pattern == Facade.GLASS, 1.38, np.minimum(1.0 + 0.9 * speckle(number, number * 0 + 5), 0.7 * pitch))
    floor = np.floor(t / STOREY_M)
    shop = (floor == 0) & (speckle(number, number * 0 + 9) < 0.55) & (pattern != Facade.GLASS) & (number < HOUSE_NUMBERS)
    pitch, width = np.where(shop, 4.2, pitch), np.where(shop, 3.5, width)
    low = np.where(pattern == Facade.GLASS, 0.25, np.where(shop, 0.5, 0.95))
    high = np.where(pattern == Facade.GLASS, 3.1, np.where(shop, 2.75, 2.5))
    column = np.floor(s / pitch)
    across = np.abs(np.mod(s, pitch) - pitch / 2)
    rise = np.mod(t, STOREY_M)
    inside = np.minimum.reduce([width / 2 - across, rise - low, high - rise])
    outer = np.clip((inside + 0.09) / np.maximum(blur_m, 0.02) + 0.5, 0, 1)
    bar = np.where(across < 0.03, 0.0, 1.0) * np.where(np.abs(rise - low - 0.7 * (high - low)) < 0.025, 0.0, 1.0)
    bar = np.where((blur_m < 0.08) & (pattern != Facade.GLASS), bar, 1.0)
    glass = np.clip(inside / np.maximum(blur_m, 0.02) + 0.5, 0, 1) * bar
    return _Windows(glass.astype(np.float32), outer.astype(np.float32), column, floor, rise, low, high, shop)


def _behind_glass(at: _Windows, number: Int64) -> Float32:
    """Return the colour (N, 3) behind the glass: dark rooms, some with curtains or light, and shop windows with goods."""
    column, floor, rise, low, high, shop = at.column, at.floor, at.rise, at.low, at.high, at.shop
    draw = speckle(column + 31 * number, floor, 11)
    room = np.full((len(column), 3), 0.022, np.float32, order="F") + 0.03 * speckle(column + 17 * number, floor, 13)[:, None]
    curtain = (draw < 0.3) & (rise > low + (high - low) * (0.2 + 1.6 * draw)) & ~np.asarray(shop, bool)
    room[curtain] = float32_triple(0.36, 0.34, 0.30)
    lit = (draw > 0.93) & ~np.asarray(shop, bool)
    room[lit] = float32_triple(0.55, 0.42, 0.22)
    wares = np.asarray(shop, bool)
    hue = speckle(column + number, floor, 19)
    goods = 0.03 + 0.10 * np.stack([hue, 0.5 * (1 - hue) + 0.25, 0.6 * np.abs(hue - 0.5) + 0.25], axis=1)[wares]
    room[wares] = goods * (0.35 + 1.1 * np.clip(1.6 - rise[wares], 0, 1)[:, None])
    shade = np.clip((high - rise) / 0.18, 0.25, 1.0)
    behind: Float32 = room * shade[:, None]
    return behind
