"""Load batches for a training, in this process or in worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch

from heal.tools.training.interrupts import ignore_interrupts

Batch = TypeVar("Batch")


def load_batches(
    batches: torch.utils.data.Dataset[Batch], indices: Sequence[int], workers: int
) -> torch.utils.data.DataLoader[Batch]:
    """Return a loader of batches.

    Args:
        batches: the batches.
        indices: which batches, in order.
        workers: number of loading processes, which start when the loader is iterated; 0 to load in this process.
    """
    return torch.utils.data.DataLoader(
        batches,
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        worker_init_fn=_set_up_worker,
        prefetch_factor=2 if workers else None,
        generator=torch.Generator(),  # so that the seeds of the workers are not drawn from the numbers of the networks
    )


def _set_up_worker(_: int) -> None:
    """Limit a loading process to one thread, for more would slow down the training on the same cores; Ctrl-C is the parent's."""
    torch.set_num_threads(1)
    ignore_interrupts()
