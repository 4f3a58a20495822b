"""The execution of a training: its loop, checkpoints, logs and progress bars."""
