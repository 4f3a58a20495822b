"""The growth of processes: memory, open files and threads of every process of a run over its age, and the slopes through them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
import psutil

MIB = 2**20
# What a process may grow by in an hour: noise of the allocator, and what Ray remembers of actors that have died. A shorter life may
# grow by as much as a quarter of an hour may, as long as the first things are loaded.
LIMITS = {"memory_mib": 30.0, "files": 10.0, "threads": 10.0}
LEAST_HOURS = 0.25
ROLES = ("ray::AgentActor", "ray::NodeActor", "ray::IDLE", "raylet", "gcs_server")


@dataclass(frozen=True)
class Sample:
    """What a process held at an instant.

    Attributes:
        age_s: since it was first seen.
        memory_mib: its own memory, without files and shared memory.
        files: number of open file descriptors.
        threads: number of threads.
    """

    age_s: float
    memory_mib: float
    files: float
    threads: float


@dataclass(frozen=True)
class Slope:
    """The growth of one quantity in all processes of a role.

    Attributes:
        per_hour: growth in an hour of a process's life.
        error: its standard error.
        hours: the longest of the lives.
        samples: number of samples.
    """

    per_hour: float
    error: float
    hours: float
    samples: int

    def exceeds(self, limit: float) -> bool:
        """Return whether a process has certainly grown by more than a limit, which is per hour."""
        return (self.per_hour - 3 * self.error) * self.hours > limit * max(self.hours, LEAST_HOURS)


class Growth:
    """Samples the processes of a run, and fits their growth."""

    def __init__(self, warm_up_s: float) -> None:
        """Sample nothing yet; the first `warm_up_s` of every process's life do not count."""
        self._warm_up_s = warm_up_s
        self._first_s: dict[int, float] = {}
        self._samples: dict[tuple[str, int], list[Sample]] = defaultdict(list)

    def sample(self) -> None:
        """Take a sample of this process and of all its descendants."""
        me = psutil.Process()
        for process in [me, *me.children(recursive=True)]:
            with suppress(psutil.Error, OSError):
                role = "driver" if process.pid == me.pid else role_of(process)
                first_s = self._first_s.setdefault(process.pid, monotonic())
                age_s = monotonic() - first_s
                if age_s >= self._warm_up_s:
                    self._samples[role, process.pid].append(_sample(process.pid, age_s))

    def slopes(self) -> dict[str, dict[str, Slope]]:
        """Return the growth of every role: of memory_mib, of files and of threads."""
        roles: dict[str, list[list[Sample]]] = defaultdict(list)
        for (role, _), samples in self._samples.items():
            if len(samples) > 2:
                roles[role].append(samples)
        return {role: {name: _slope(lives, name) for name in LIMITS} for role, lives in sorted(roles.items())}

    def grown(self) -> Iterator[str]:
        """Yield what has grown by more than its limit."""
        for role, slopes in self.slopes().items():
            for name, slope in slopes.items():
                if slope.exceeds(LIMITS[name]):
                    yield f"{role}: {name} grows by {slope.per_hour:.1f} +- {slope.error:.1f} an hour, allowed are {LIMITS[name]:g}"


def role_of(process: psutil.Process) -> str:
    """Return what a process of Ray does: the name of its actor's class or of its program."""
    command = process.cmdline()
    name = Path(command[0]).name if command else process.name()
    return next((role for role in ROLES if name.startswith(role)), name.partition(".")[0])


def _sample(pid: int, age_s: float) -> Sample:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    memory = int(fields["RssAnon"].split()[0]) * 1024 / MIB
    return Sample(age_s, memory, len([*Path(f"/proc/{pid}/fd").iterdir()]), int(fields["Threads"]))


def _slope(lives: list[list[Sample]], name: str) -> Slope:
    """Fit one slope through the lives of several processes, each with a level of its own."""
    ages = [np.array([sample.age_s for sample in life]) / 3600 for life in lives]
    values = [np.array([getattr(sample, name) for sample in life]) for life in lives]
    x = np.concatenate([age - age.mean() for age in ages])
    y = np.concatenate([value - value.mean() for value in values])
    spread = float(x @ x)
    hours = max(float(np.ptp(age)) for age in ages)
    per_hour = float(x @ y) / spread
    rest = y - per_hour * x
    return Slope(per_hour, float(np.sqrt(rest @ rest / max(len(x) - len(lives) - 1, 1) / spread)), hours, len(x))
