"""Correction of measured poses by the vehicles that several agents see, by their foreground scores or by their boxes."""
