"""The replicas of a training: processes that train together, each on its share of every batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from heal.errors import UserError

Part = TypeVar("Part")


class ReplicaError(UserError, RuntimeError):
    """A replica failed; the message is that of the replica's own error."""


@dataclass(frozen=True)
class Replica:
    """One of the processes that train together.

    Attributes:
        rank: number of this replica, from 0; replica 0 writes logs and checkpoints.
        count: number of replicas.
        device: torch's name of the device that this replica computes on.
    """

    rank: int = 0
    count: int = 1
    device: str = "cpu"

    @property
    def is_first(self) -> bool:
        """Whether this replica writes logs and checkpoints."""
        return self.rank == 0


ALONE = Replica()


def gather(part: Part, replica: Replica) -> list[Part]:
    """Return the parts of all replicas, in the order of their ranks; every replica has to call this with its own part."""
    if replica.count == 1:
        return [part]
    parts: list[Part] = [part] * replica.count
    torch.distributed.all_gather_object(parts, part)
    return parts


def average_statistics(network: nn.Module, replica: Replica) -> None:
    """Give the batch norms that learn the mean of all replicas' running means and variances.

    Replicas normalise by their own scenes alone. If all replicas call this after every step, they start each step with the same
    statistics, which are made of the scenes of all replicas. A replica whose scenes lack an agent type counts with the statistics
    that the type had before.
    """
    if replica.count == 1:
        return
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm) and part.training]
    statistics = [part for norm in norms for part in (norm.running_mean, norm.running_var) if part is not None]
    if statistics:
        joined = torch.cat(statistics)
        torch.distributed.all_reduce(joined)
        for own, mean in zip(statistics, torch.split(joined / replica.count, [len(own) for own in statistics]), strict=True):
            own.copy_(mean)
