"""OPV2V and data sets in its layout: the list of scenarios, the metadata, and the source of scenes."""
