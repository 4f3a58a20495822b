"""Meshes of people: pedestrians, and cyclists on bicycles or light motorcycles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from heal.datasets.town.geometry.materials import Material
from heal.datasets.town.geometry.mesh import Colour, Mesh, cylinder, ellipsoid, merge, up
from heal.types import Float64

CLOTHES: tuple[Colour, ...] = ((0.08, 0.10, 0.25), (0.35, 0.05, 0.05), (0.5, 0.5, 0.48), (0.05, 0.05, 0.05), (0.45, 0.35, 0.08))
_SKIN: Colour = (0.5, 0.33, 0.24)
_GREY: Colour = (0.30, 0.31, 0.32)


def pedestrian_mesh(height_m: float, yaw: float, stride_m: float, coat: Colour, legs: Colour, rng: np.random.Generator) -> Mesh:
    """Make a standing or walking person at the origin.

    Args:
        height_m: height.
        yaw: direction of the steps in radians.
        stride_m: half the distance between the feet along the steps.
        coat: colour of the upper body.
        legs: colour of the legs.
        rng: random numbers for the head.
    """
    foot = np.zeros(3)
    step = np.array([np.cos(yaw), np.sin(yaw), 0]) * stride_m
    side = np.array([-np.sin(yaw), np.cos(yaw), 0]) * 0.1
    hip, neck = foot + up(0.5 * height_m), foot + up(0.85 * height_m)
    parts = [
        cylinder(foot + side + step, hip + side, 0.085, Material.CLOTH, legs, 6),
        cylinder(foot - side - step, hip - side, 0.085, Material.CLOTH, legs, 6),
        cylinder(hip - up(0.05), neck, 0.2, Material.CLOTH, coat, 8),
        ellipsoid(neck + up(0.12), (0.1, 0.1, 0.13), Material.CLOTH, _SKIN, rng),
    ]
    parts += [
        cylinder(neck + sign * 2.2 * side, hip + sign * 2.4 * side - sign * step, 0.05, Material.CLOTH, coat, 5) for sign in (-1, 1)
    ]
    return merge(parts)


def cyclist_mesh(frame_m: float, coat: Colour, legs: Colour, rng: np.random.Generator) -> Mesh:
    """Make a person on a bicycle, or with a thick frame on a light motorcycle, at the origin, along x.

    Args:
        frame_m: thickness of the frame.
        coat: colour of the upper body.
        legs: colour of the legs.
        rng: random numbers for the head.
    """
    saddle, handle, neck = np.array([-0.2, 0, 0.95]), np.array([0.42, 0, 1.0]), np.array([0.08, 0, 1.5])
    wheels = [((x, -frame_m, 0.34), (x, frame_m, 0.34)) for x in (-0.52, 0.55)]
    parts = [cylinder(left, right, 0.34, Material.TYRE, (0.03, 0.03, 0.03), 12) for left, right in wheels]
    parts += [
        cylinder((-0.52, 0, 0.34), saddle - up(0.1), 0.02 + frame_m / 2, Material.METAL, _GREY, 6),
        cylinder((0.55, 0, 0.34), handle, 0.02 + frame_m / 3, Material.METAL, _GREY, 6),
        cylinder(saddle - up(0.15), handle - up(0.25), 0.02 + frame_m / 2, Material.METAL, _GREY, 6),
        cylinder(saddle, neck, 0.18, Material.CLOTH, coat, 8),
        ellipsoid(neck + up(0.15), (0.11, 0.1, 0.14), Material.CLOTH, _SKIN, rng),
    ]
    for side in (-0.12, 0.12):
        beside = np.array([0, side, 0])
        parts.append(cylinder(saddle + beside, beside + np.array([0.1, 0, 0.35]), 0.08, Material.CLOTH, legs, 6))
        parts.append(cylinder(neck + 1.4 * beside - up(0.1), handle + 1.8 * beside, 0.05, Material.CLOTH, coat, 5))
    return merge(parts)


def fitted(mesh: Mesh, size_m: Float64) -> Mesh:
    """Return a mesh stretched to fill a box of (length, width, height) metres whose bottom's middle is the origin."""
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    scale = size_m / (high - low)
    moved = (mesh.vertices - [*(low + high)[:2] / 2, low[2]]) * scale
    normals = mesh.normals / scale
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return replace(mesh, vertices=moved.astype(np.float32), normals=normals.astype(np.float32))
