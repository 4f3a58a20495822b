"""Bags of ROS 2: scenes written to MCAP files, and scenes of whatever bag has clouds, images, transforms and detections."""
