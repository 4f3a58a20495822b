"""Layers that several networks share, and how they are made fast."""
