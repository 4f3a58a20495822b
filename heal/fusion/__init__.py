"""Fusion of several agents' maps: moving maps into the ego's frame, Pyramid Fusion, and the correction of the agents' poses."""
