"""DAIR-V2X-C: the list of frames, the calibration, and the source of scenes."""
