"""Checks of what a command is given, before anything begins: device, range, planned faults, and whether data and alliance fit."""
