"""`heal keys`: the keys of the agents of a run, with which messages are signed."""
