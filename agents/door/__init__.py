"""The door of a run: messages that come from outside Ray as bytes over Zenoh, their limits and counts, and the clock of the run."""
