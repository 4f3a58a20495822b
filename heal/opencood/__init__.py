"""Read and write HEAL's own configurations and checkpoints. No other room knows HEAL's keys or its names of weights."""
