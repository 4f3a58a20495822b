"""Where an evaluation computes: its devices, its processes, how many scenes are encoded together and read ahead."""

from __future__ import annotations

from dataclasses import dataclass

from heal.agents.process import usable_cores
from heal.device import devices_to_share

GPU_BATCH, GPU_WORKERS = 4, 4
"""Scenes that are encoded together on a GPU, and loading processes for one, where the command line says nothing else."""


@dataclass(frozen=True)
class Compute:
    """Where and how an evaluation computes.

    Attributes:
        devices: names of the devices that share the recordings.
        processes: number of processes that share them; with 1 nothing leaves this process.
        batch: number of scenes whose agents are encoded together.
        workers: number of loading processes of each process, which read scenes ahead; with 0 every scene is read in its turn.
    """

    devices: tuple[str, ...] = ("cpu",)
    processes: int = 1
    batch: int = 1
    workers: int = 0

    @staticmethod
    def of(device: str, processes: int | None, batch: int | None, workers: int | None) -> Compute:
        """Take the options of a command line; UserError for a device that is not there.

        Where an option is None, each GPU has a process, encodes `GPU_BATCH` scenes together and has `GPU_WORKERS` loading
        processes, as far as there are cores; on a CPU there is one process, which reads and encodes one scene after the other.
        """
        devices = devices_to_share(device)
        processes = processes or len(devices)
        on_gpu = devices[0] != "cpu"
        spare = max(usable_cores() // processes - 1, 0)
        return Compute(
            devices,
            processes,
            batch or (GPU_BATCH if on_gpu else 1),
            (min(GPU_WORKERS, spare) if on_gpu else 0) if workers is None else workers,
        )

    def of_process(self, number: int) -> Compute:
        """Return where a process computes: all its parts of the scenes on one device."""
        return Compute((self.devices[number % len(self.devices)],), 1, self.batch, self.workers)
