"""The parts of a training: settings, batches, augmentation, losses, the optimiser and validation."""
