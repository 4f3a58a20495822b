"""Aligners: the last step of an agent's network, into the feature space that its alliance shares; one file per family."""
