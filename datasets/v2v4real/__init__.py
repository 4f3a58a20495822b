"""V2V4Real: two vehicles on real roads, in OPV2V's layout."""
