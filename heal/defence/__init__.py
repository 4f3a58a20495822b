"""Checks of what senders claim: statistics of their maps, scores that follow from these, agreement with the ego, and free space."""
