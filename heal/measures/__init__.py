"""Measures of detections over kept matches: both rules of AP, both overlaps, and parts of the vehicles and scenes."""
