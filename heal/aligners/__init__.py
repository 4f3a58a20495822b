"""Aligners: the last step of an agent, into the feature space that its alliance shares."""
