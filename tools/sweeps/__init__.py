"""The conditions of a sweep, and the runs of one of its processes."""
