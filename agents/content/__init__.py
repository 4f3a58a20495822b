"""What agents send in a tick, a class for each `RunOptions.split`: a feature map, the trunk's scales, boxes, or points."""
