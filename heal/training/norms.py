"""The running statistics of batch norms in short trainings."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

# The running statistics are those of about the last tenth of the steps so far, until that is as many as a norm's own momentum says.
_SHARE = 10


class RunningStatistics:
    """Sets how much the running statistics of batch norms take up of each step of a training.

    With HEAL's momentum of 0.01 they keep 0.99 of what they were in each step, and so a fifth of their first values, 0 and 1, after
    160 steps. In training a norm does not use them, so the loss does not show it; afterwards the networks compute with them. The
    first steps therefore count more, and the first values not at all. From step 990 on the momentum is 0.01.
    """

    def __init__(self, model: nn.Module) -> None:
        """Find the norms of a model, each with its own momentum."""
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        self._norms = [(norm, norm.momentum) for norm in norms if norm.momentum is not None]

    def begin_step(self, step: int) -> None:
        """Set the momentum for a step, counted from 0 at the start of the training."""
        for norm, momentum in self._norms:
            norm.momentum = max(momentum, _SHARE / (step + _SHARE))
