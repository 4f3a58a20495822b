"""TUMTraf-V2X: its OpenLABEL files, and the source of scenes."""
