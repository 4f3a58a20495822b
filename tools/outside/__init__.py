"""An agent as a process of its own, which connects to a running simulation."""
