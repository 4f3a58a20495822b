"""Layers that several networks share, and faster versions of them that compute the same numbers."""
