"""A training as a job: its loop, checkpoints and logs."""
