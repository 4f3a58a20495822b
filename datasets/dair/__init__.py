"""DAIR-V2X-C as scenes."""
