"""3D boxes: anchors, heads, targets, losses, decoding, average precision."""
