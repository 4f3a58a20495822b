"""Checks of what a command is given, before anything begins: range, planned faults, and whether data and alliance fit."""
