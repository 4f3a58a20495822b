"""The fusion node of a run: reading messages, fusing their feature maps, and dividing the ground into regions."""
