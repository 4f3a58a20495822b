"""The course of a simulation: its plan, its run with what is done beside the run's clock, and its summary."""
