"""An alliance as one file: the archive, its manifest with a hash of every file, and the check that an alliance is whole."""
