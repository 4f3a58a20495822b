"""Triangles, their materials, and rays into them."""
