"""Runs with late fusion: agents that detect alone, and the joining of their boxes around the ego."""
