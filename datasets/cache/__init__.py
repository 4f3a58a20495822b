"""A cache of what is read of a data set: sweeps, images, depth, poses and labels, in files with checksums that are read fast."""
