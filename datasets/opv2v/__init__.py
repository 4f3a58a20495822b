"""OPV2V, and whatever is written in its layout, as scenes."""
