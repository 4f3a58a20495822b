"""The live view of a run in rerun: panels, 3D scene, heat maps, series, and faults."""
