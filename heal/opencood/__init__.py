"""HEAL's own files: configurations, checkpoints and names of weights, read and written. No other room knows them."""
