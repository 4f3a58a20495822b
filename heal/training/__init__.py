"""Everything that makes a training step: settings, batches, augmentation, losses, optimiser."""
