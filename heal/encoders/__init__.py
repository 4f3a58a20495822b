"""Sensor encoders: one file each, from what a sensor gives to a bird's-eye-view feature map."""
