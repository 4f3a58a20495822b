"""The parts of a training step: settings, batches, augmentation, losses and the optimiser."""
