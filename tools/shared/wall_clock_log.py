"""Whether a run has kept up with the wall clock, and which rate this machine sustains."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from heal.agents.options import RunOptions
from heal.agents.pacer import NOMINAL_HZ
from heal.agents.records import BUSY, UNFINISHED, TickResult

# A run has kept up if no tick was dropped, no message was computed too late, and no tick began later than this after its time,
# in milliseconds of the data.
ALLOWED_LAG_MS = 100.0
PERCENTILE = 90
# Of the rate at which everything would just be done in time: the times of the stages vary.
SAFE_SHARE = 0.9
NODE = "fusion node"


@dataclass
class WallClockLog:
    """The sums over the ticks of a run by the wall clock.

    Attributes:
        rate_hz: of the run; see `RunOptions`.
        ticks: number of ticks that were run.
        dropped: number of ticks that were dropped.
        late: number of messages that were not computed in time.
        lag_ms: the largest delay of the begin of a tick, in milliseconds of the data.
        times_ms: by agent, and for the fusion node, the measured time of each step. By the wall clock an agent's step lasts until
            its message is there, and so includes the steps of other agents of its process before it.
        links_ms: simulated times on links.
    """

    rate_hz: float = NOMINAL_HZ
    ticks: int = 0
    dropped: int = 0
    late: int = 0
    lag_ms: float = 0.0
    times_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    links_ms: list[float] = field(default_factory=list)

    def add(self, result: TickResult) -> None:
        """Add a tick."""
        self.ticks, self.dropped, self.lag_ms = self.ticks + 1, self.dropped + result.dropped, max(self.lag_ms, result.lag_ms)
        for record in result.messages:
            self.late += record.reason in (UNFINISHED, BUSY)
            if record.latency is not None:
                elapsed_ms = (record.sent_ns - result.timestamp_ns) / 1e6 * NOMINAL_HZ / self.rate_hz
                self.times_ms[record.agent_id].append(max(record.latency.total_ms, elapsed_ms))
        for agent_id, latency in result.late:
            self.times_ms[agent_id].append(latency.total_ms)
        if result.latency is not None:
            self.times_ms[NODE].append(result.latency.total_ms)
        self.links_ms += [record.link_ms for record in result.messages if record.link_ms is not None and not record.own]

    @property
    def kept_up(self) -> bool:
        """Whether every tick was run, none much after its time, and every message was computed in time."""
        return self.dropped == 0 and self.late == 0 and self.lag_ms <= ALLOWED_LAG_MS

    @property
    def of_ticks_text(self) -> str:
        """How many ticks were run: "40 ticks", or "12 of 40 ticks"."""
        return f"{self.ticks} of {self.ticks + self.dropped} ticks" if self.dropped else f"{self.ticks} ticks"

    @property
    def rates_hz(self) -> dict[str, float]:
        """How many steps a second each agent and the fusion node can do, beside the others, by 90 % of its times."""
        return {name: 1e3 / max(float(np.percentile(times, PERCENTILE)), 1e-3) for name, times in self.times_ms.items()}

    def sustained_hz(self, options: RunOptions) -> float | None:
        """Return the rate for `--rate` at which this machine can be expected to keep up; None if no agent was measured.

        The slowest agent has to be done, and its message over the link, by the deadline; its step and that of the fusion node,
        which share the cores, have to be done before the next tick.
        """
        steps_ms = [1e3 / rate for name, rate in self.rates_hz.items() if name != NODE]
        if not steps_ms:
            return None
        node_ms = 1e3 / self.rates_hz[NODE] if NODE in self.rates_hz else 0.0
        link_ms = float(np.percentile(self.links_ms, PERCENTILE)) if self.links_ms else 0.0
        left_ms = options.deadline_ms - link_ms
        stretches = [(max(steps_ms) + node_ms) * NOMINAL_HZ / 1e3, *([max(steps_ms) / left_ms] if left_ms > 0 else [])]
        sustained_hz = SAFE_SHARE * NOMINAL_HZ / max(stretches)
        # What the times do not show, such as the work of other programs, can only be inferred from the failure.
        return _round_down(sustained_hz if self.kept_up else min(sustained_hz, SAFE_SHARE * self.rate_hz))

    def text(self, options: RunOptions) -> str:
        """Return two sentences for the end of a run."""
        rates = ", ".join(f"{name} {rate:.1f} Hz" for name, rate in self.rates_hz.items())
        if self.kept_up:
            return f"wall clock: kept up; the latest tick began {self.lag_ms:.0f} ms after its time. This machine does: {rates}"
        sustained = self.sustained_hz(options)
        advice = "" if sustained is None else f". It is expected to keep up with --rate {sustained:g}"
        return (
            f"wall clock: did not keep up: {self.dropped} of {self.ticks + self.dropped} ticks dropped, {self.late} messages not "
            f"computed in time, the latest tick began {self.lag_ms:.0f} ms after its time. AP is that of the ticks that were run. "
            f"This machine does: {rates}{advice}"
        )

    def metrics(self, options: RunOptions) -> dict[str, Any]:
        """Return the log as an entry of metrics.json."""
        return {
            "kept_up": self.kept_up,
            "max_lag_ms": round(self.lag_ms, 1),
            "dropped": self.dropped,
            "late": self.late,
            "rates_hz": {name: round(rate, 2) for name, rate in self.rates_hz.items()},
            "sustained_hz": self.sustained_hz(options),
        }


def _round_down(rate_hz: float) -> float:
    """Return a rate with two digits, not above the given one."""
    step = 10.0 ** (math.floor(math.log10(rate_hz)) - 1)
    return round(math.floor(rate_hz / step + 1e-9) * step, 6)
