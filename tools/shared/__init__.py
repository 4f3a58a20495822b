"""What several commands share: arguments, paths, settings of a run, scores, logs."""
