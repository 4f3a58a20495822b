"""Checks of what senders claim: statistics of their maps, scores that follow from these, and agreement with what the ego sees."""
