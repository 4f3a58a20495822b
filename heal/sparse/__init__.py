"""Sparse 3D convolution: sites, rulebooks, engines and layers."""
