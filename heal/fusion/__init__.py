"""Fusing the feature maps of several agents into one."""
