"""Cameras of the town: render images by ray casting, with colours by material, sun, shadows, sky and haze; and depth images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from heal.datasets.town.geometry.materials import MIRROR_SHARE, Material
from heal.datasets.town.geometry.mesh import Mesh
from heal.datasets.town.geometry.raycast import Hits, RayScene
from heal.datasets.town.sensors.drops import drops_on_lens
from heal.datasets.town.sensors.facades import wall_texture, window_light
from heal.datasets.town.sensors.lamps import Lamps, lamp_glow, lamp_light
from heal.datasets.town.sensors.patterns import float32_triple, smooth_noise
from heal.datasets.town.sensors.rows import dot_rows, put_rows, take_rows, tinted
from heal.datasets.town.sensors.textures import block_colour, leaf_colour, road_colour
from heal.datasets.town.sensors.weather import Weather
from heal.datasets.town.world.blocks import Block
from heal.datasets.town.world.streets import TownMap
from heal.types import Float32, Float64, Int64, UInt8

NO_DEPTH_M = 1000.0
_EDGE_CONTRAST = 0.06  # pixels that differ by more from a neighbour get further rays
_SUBPIXELS = ((-0.3, -0.15), (0.15, -0.3), (0.15, 0.4))  # offsets of the further rays: right and down, in pixels


@dataclass(frozen=True)
class RenderInput:
    """The town at an instant, as `render_picture` needs it.

    Attributes:
        map: streets and ground.
        blocks: the blocks between the streets.
        weather: light, sky and haze.
        mesh: all triangles.
        scene: the same triangles, prepared for ray casting.
        lamps: the lamps that burn; none by day.
    """

    map: TownMap
    blocks: tuple[Block, ...]
    weather: Weather
    mesh: Mesh
    scene: RayScene
    lamps: tuple[Lamps, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A rendered image with the depth and the vehicle of every pixel.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        depth_m: (H, W) float32 distance along the optical axis; NO_DEPTH_M in the sky.
        owner: (H, W) int64 id of the vehicle at each pixel; -1 without a vehicle.
    """

    image: UInt8
    depth_m: Float32
    owner: Int64


@dataclass(frozen=True)
class Surface:
    """The surface at the first hits of N rays.

    Attributes:
        position: (N, 3) metres in the world frame.
        normal: (N, 3) unit vector towards the camera.
        view: (N, 3) unit direction of the ray.
        triangle: (N,) number of the triangle in the mesh.
        texcoord: (N, 2) texture coordinates.
        blur_m: (N,) size of a pixel at the surface.
    """

    position: Float32
    normal: Float32
    view: Float32
    triangle: Int64
    texcoord: Float32
    blur_m: Float32


def render_picture(
    inputs: RenderInput,
    world_SE3_camera: Float64,
    image_px: tuple[int, int],
    focal_px: float,
    smooth: bool = True,
    drops: np.random.Generator | None = None,
) -> Picture:
    """Render a picture: one ray for each pixel and, to smooth it, three further rays for pixels at edges.

    Args:
        inputs: the town at an instant.
        world_SE3_camera: (4, 4) pose of the camera, x forward, y right, z up.
        image_px: width and height.
        focal_px: focal length; the optical axis goes through the middle of the image.
        smooth: smooth the edges.
        drops: random numbers for the drops before and on the lens; None for none, also in rain.
    """
    width, height = image_px
    directions = _pixel_rays(width, height, focal_px)
    colour, hits = _trace_rays(inputs, world_SE3_camera, directions, focal_px)
    finite = np.isfinite(hits.distance)
    depth = np.where(finite, hits.distance, np.float32(NO_DEPTH_M)).reshape(height, width)
    owner = np.where(finite, inputs.mesh.owner[hits.triangle], -1).reshape(height, width).astype(np.int64)
    shown = np.ascontiguousarray(_tone_mapped(colour, inputs.weather)).reshape(height, width, 3)
    edges = _edges(shown) if smooth else np.empty(0, np.int64)
    if len(edges):
        offsets = [float32_triple(0.0, right / focal_px, -down / focal_px) for right, down in _SUBPIXELS]
        shifted = np.concatenate([directions[edges] + offset for offset in offsets])
        finer, _ = _trace_rays(inputs, world_SE3_camera, shifted, focal_px)
        total = colour[edges] + finer.reshape(len(offsets), -1, 3).sum(axis=0)
        shown.reshape(-1, 3)[edges] = _tone_mapped(total / (1 + len(offsets)), inputs.weather)
    if drops is not None and inputs.weather.rain_mm_h > 0:
        shown = drops_on_lens(shown, inputs.weather.rain_mm_h, drops)
    return Picture((shown * 255.0 + 0.5).astype(np.uint8), depth.astype(np.float32), owner)


@lru_cache(maxsize=4)
def _pixel_rays(width: int, height: int, focal_px: float) -> Float32:
    """Return directions (H * W, 3) through the middles of the pixels, row by row; x is 1, so a distance in lengths is the depth."""
    right, down = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    rays = np.stack([np.ones(right.shape), right / focal_px, -down / focal_px], axis=-1)
    return rays.reshape(-1, 3).astype(np.float32)


def _edges(shown: Float32) -> Int64:
    """Return the flat indices of the pixels of an image (H, W, 3) that differ from a neighbour."""
    grey = shown @ float32_triple(0.3, 0.5, 0.2)
    contrast = np.zeros(grey.shape, np.float32)
    for axis in (0, 1):
        step = np.abs(np.diff(grey, axis=axis))
        low, high = (slice(None, -1), slice(None)), (slice(1, None), slice(None))
        first, second = (low, high) if axis == 0 else (low[::-1], high[::-1])
        np.maximum(contrast[first], step, out=contrast[first])
        np.maximum(contrast[second], step, out=contrast[second])
    return np.flatnonzero(contrast > _EDGE_CONTRAST)


def _trace_rays(inputs: RenderInput, world_SE3_camera: Float64, directions: Float32, focal_px: float) -> tuple[Float32, Hits]:
    """Return the linear RGB (N, 3) seen along rays (N, 3) in the camera's frame, and the first hits of the rays."""
    rays = np.empty((len(directions), 6), np.float32)
    rays[:, :3] = world_SE3_camera[:3, 3]
    rays[:, 3:] = directions @ world_SE3_camera[:3, :3].T.astype(np.float32)
    hits = inputs.scene.cast(rays)
    length = np.sqrt(np.einsum("nd,nd->n", directions, directions))
    ahead = np.asfortranarray(rays[:, 3:])
    view = ahead / length[:, None]
    colour = np.empty((len(rays), 3), np.float32, order="F")
    hit = np.isfinite(hits.distance)
    sky, solid = np.flatnonzero(~hit), np.flatnonzero(hit)
    put_rows(colour, sky, inputs.weather.sky(take_rows(view, sky)))
    distance = hits.distance[solid]
    position = rays[0, :3] + (take_rows(ahead, solid) * distance[:, None]).astype(np.float32, copy=False)
    surface = _surface(inputs.mesh, hits, solid, position, take_rows(view, solid), focal_px)
    clear = np.exp(-(distance * length[solid]) / inputs.weather.sight_m)
    put_rows(colour, solid, _shade(inputs, surface) * clear[:, None] + tinted(1 - clear, inputs.weather.horizon))
    if inputs.weather.glare > 0 and not inputs.scene.blocked(np.append(rays[0, :3], inputs.weather.sun)[None])[0]:
        colour += _glare(inputs.weather, view)
    return colour, hits


def _glare(weather: Weather, view: Float32) -> Float32:
    """Return the sunlight (N, 3) that the lens scatters into unit directions (N, 3) of its image."""
    near = np.clip(dot_rows(view, weather.sun), 0.0, 1.0)
    return tinted(weather.glare * (0.25 * near**2 + 0.8 * near**24), weather.sun_colour)


def _surface(mesh: Mesh, hits: Hits, index: Int64, position: Float32, view: Float32, focal_px: float) -> Surface:
    """Return the surface at the hits `index` (N,); `position` (N, 3) and `view` (N, 3) belong to these hits."""
    distance, triangle, second = hits.distance[index], hits.triangle[index], take_rows(hits.barycentric, index)
    corners = take_rows(mesh.triangles, triangle).astype(np.intp)
    weights = np.stack([1 - second[:, 0] - second[:, 1], second[:, 0], second[:, 1]])
    normal = _interpolated(mesh.normals, corners, weights)
    normal /= (np.sqrt(np.einsum("nd,nd->n", normal, normal)) + np.float32(1e-9))[:, None]
    facing = np.einsum("nd,nd->n", normal, view)
    normal *= np.where(facing > 0, np.float32(-1), np.float32(1))[:, None]
    blur = distance / focal_px / np.sqrt(np.maximum(np.abs(facing), 0.04))
    return Surface(
        position=position,
        normal=normal,
        view=view,
        triangle=triangle,
        texcoord=_interpolated(mesh.texcoord, corners, weights),
        blur_m=np.maximum(blur, np.float32(0.002)),
    )


def _interpolated(values: Float32, corners: npt.NDArray[np.intp], weights: Float32) -> Float32:
    """Interpolate values (V, k) of the vertices at corners (N, 3) with weights (3, N); the result is (N, k)."""
    mixed: Float32 = take_rows(values, corners[:, 0]) * weights[0][:, None]
    mixed += take_rows(values, corners[:, 1]) * weights[1][:, None]
    mixed += take_rows(values, corners[:, 2]) * weights[2][:, None]
    return mixed


def _shade(inputs: RenderInput, surface: Surface) -> Float32:
    """Return the linear RGB (N, 3) that the surface sends to the camera, before the haze."""
    weather, material = inputs.weather, inputs.mesh.material[surface.triangle]
    albedo, mirror = _albedo(inputs, surface, material)
    cosine = dot_rows(surface.normal, weather.sun)
    is_leaf = material == Material.LEAF
    cosine = np.where(is_leaf, 0.35 + 0.5 * np.abs(cosine), np.maximum(cosine, 0.0))
    sunlit = cosine * _sunlit(inputs, surface, cosine)
    overhead = 0.5 + 0.5 * surface.normal[:, 2]
    ambient = 0.75 * (tinted(overhead, 0.55 * weather.zenith + 0.55 * weather.horizon) + ((1 - overhead) * weather.bounce)[:, None])
    ambient = ambient * _sky_share(inputs, surface, material)[:, None]
    light = tinted(sunlit, weather.sun_colour) + ambient
    if weather.lamps_lit:
        light += lamp_light(inputs.lamps, surface.position, surface.normal)
    colour = _with_reflection(inputs, surface, albedo * light, mirror, sunlit)
    return colour + _shining(inputs, surface, material) if weather.lamps_lit else colour


def _shining(inputs: RenderInput, surface: Surface, material: UInt8) -> Float32:
    """Return the light (N, 3) that lamps and windows send out at night."""
    light = lamp_glow(inputs.mesh, surface.triangle, inputs.scene.standing_count)
    wall = np.flatnonzero(material == Material.FACADE)
    style = inputs.mesh.style[surface.triangle[wall]].astype(np.int64)
    put_rows(light, wall, window_light(style, take_rows(surface.texcoord, wall), surface.blur_m[wall]))
    return light


def _sunlit(inputs: RenderInput, surface: Surface, cosine: Float32) -> Float32:
    """Return 1 where the sun shines on the surface and 0 in the shadow, as (N,); `cosine` is that of sun and normal."""
    lit = np.zeros(len(cosine), np.float32)
    turned = np.flatnonzero(cosine > 0)
    rays = np.empty((len(turned), 6), np.float32)
    rays[:, :3] = take_rows(surface.position, turned) + 0.03 * take_rows(surface.normal, turned)
    rays[:, 3:] = inputs.weather.sun
    lit[turned] = ~inputs.scene.blocked(rays)
    return lit


def _sky_share(inputs: RenderInput, surface: Surface, material: UInt8) -> Float32:
    """Return the share (N,) of the sky's light that reaches the surface; under a vehicle it is small."""
    share = np.ones(len(material), np.float32)
    ground = np.flatnonzero(((material == Material.ROAD) | (material == Material.BLOCK)) & (surface.blur_m < 0.35))
    rays = np.empty((len(ground), 6), np.float32)
    rays[:, :3] = take_rows(surface.position, ground) + float32_triple(0, 0, 0.02)
    rays[:, 3:] = (0.0, 0.0, 1.0)
    above = inputs.scene.cast(rays).distance
    share[ground] = np.where(above < 1.2, 0.25 + 0.4 * np.minimum(above, 1.2) / 1.2, 1.0)
    return share


def _with_reflection(inputs: RenderInput, surface: Surface, colour: Float32, mirror: Float32, sunlit: Float32) -> Float32:
    """Add the reflections of shiny surfaces to `colour`: the sky or the grey of a street, and the sun's highlight; return it."""
    shiny = np.flatnonzero(mirror > 0)
    normal, view = take_rows(surface.normal, shiny), take_rows(surface.view, shiny)
    facing = -np.einsum("nd,nd->n", normal, view)
    reflected = view + 2 * facing[:, None] * normal
    fresnel = (mirror[shiny] * (0.25 + 0.75 * (1 - np.clip(facing, 0, 1)) ** 4))[:, None]
    upward = np.clip(reflected[:, 2:] * 6.0 - 0.3, 0.0, 1.0)
    grey = 1.25 * inputs.weather.bounce
    street = tinted(0.6 + 0.6 * np.clip(reflected[:, 2] + 0.5, 0, 1), float32_triple(grey, grey, grey))
    seen = inputs.weather.sky(reflected).clip(0, 3.0) * upward + street * (1 - upward)
    highlight = np.clip(dot_rows(reflected, inputs.weather.sun), 0, 1) ** 90 * (sunlit[shiny] > 0)
    glint = tinted(mirror[shiny] * highlight, inputs.weather.sun_colour)
    put_rows(colour, shiny, take_rows(colour, shiny) * (1 - fresnel) + fresnel * seen + glint)
    return colour


def _albedo(inputs: RenderInput, surface: Surface, material: UInt8) -> tuple[Float32, Float32]:
    """Return the colour (N, 3) of the surface under white light, and its share of mirror-like reflection (N,)."""
    mesh, triangle = inputs.mesh, surface.triangle
    colour = take_rows(mesh.tint, triangle)
    mirror = MIRROR_SHARE[material].astype(np.float32)

    def of(kind: Material) -> Int64:
        return np.flatnonzero(material == kind)

    road, block, wall, leaf = of(Material.ROAD), of(Material.BLOCK), of(Material.FACADE), of(Material.LEAF)
    uv, blur_m, style = surface.texcoord, surface.blur_m, mesh.style[triangle]
    put_rows(colour, road, road_colour(inputs.map, take_rows(uv, road), blur_m[road]))
    put_rows(colour, block, block_colour(inputs.blocks, style[block], take_rows(uv, block), blur_m[block]))
    texture = wall_texture(take_rows(colour, wall), style[wall].astype(np.int64), take_rows(uv, wall), blur_m[wall])
    put_rows(colour, wall, texture.colour)
    mirror[wall] = texture.mirror
    put_rows(colour, leaf, leaf_colour(take_rows(colour, leaf), take_rows(surface.position, leaf)))
    tiles = of(Material.ROOF)
    rows = np.mod(uv[tiles, 1], 0.35) < np.maximum(0.06, 0.4 * blur_m[tiles])
    colour[tiles] *= np.where(rows & (style[tiles] == 1), 0.7, 1.0)[:, None]
    if inputs.weather.rain_mm_h > 0:
        _make_wet(colour, mirror, np.concatenate([road, block]), uv)
    return colour, mirror


def _make_wet(colour: Float32, mirror: Float32, ground: Int64, uv: Float32) -> None:
    """Make the surfaces `ground` (K,) of N darker and shiny, with puddles; changes colour (N, 3) and mirror (N,) in place."""
    puddle = np.clip(4.0 * (smooth_noise(uv[ground, 0] / 23.0, uv[ground, 1] / 23.0) - 0.70), 0.0, 1.0)
    put_rows(colour, ground, take_rows(colour, ground) * (0.62 - 0.2 * puddle)[:, None])
    mirror[ground] = 0.28 + 0.45 * puddle


def _tone_mapped(colour: Float32, weather: Weather) -> Float32:
    """Convert linear light to screen values in [0, 1] by exposure, a tone curve and gamma."""
    exposed = np.maximum(colour * (0.95 * weather.exposure), 0.0)
    curve = exposed * (2.51 * exposed + 0.03) / (exposed * (2.43 * exposed + 0.59) + 0.14)
    shown: Float32 = np.clip(curve, 0.0, 1.0).astype(np.float32) ** np.float32(1 / 2.2)
    return shown
