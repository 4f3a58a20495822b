"""Sensors of a town: LiDARs, cameras, the colours of surfaces, and the weather."""
