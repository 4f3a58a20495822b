"""Geometry of a town: triangle meshes, their materials, and ray casting."""
