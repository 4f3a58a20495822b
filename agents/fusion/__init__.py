"""The fusion node of a run: it reads messages, fuses their maps, and divides the ground into regions."""
