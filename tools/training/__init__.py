"""The execution of a training: its loop, validations, checkpoints, logs and progress bars."""
