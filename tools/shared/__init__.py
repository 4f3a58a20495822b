"""What several commands share: options, paths, scene sources, settings of a run, scores, logs."""
