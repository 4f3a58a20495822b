"""Sparse 3D convolutions, on whichever engine the device has."""
