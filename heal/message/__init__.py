"""The message that an agent sends: header, codec and payload, byte by byte."""
