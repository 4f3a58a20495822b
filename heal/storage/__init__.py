"""The parts of an alliance on disk: weights with their records, and compressors."""
