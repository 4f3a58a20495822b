"""A run in rerun's 3D viewer."""
