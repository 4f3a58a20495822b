"""AP by the wall clock, at the data's own rate and at the rate that this machine sustains, against AP in simulated time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from heal.agent_types import same_type
from heal.agents.network.network import PerfectNetwork
from heal.agents.options import RunOptions
from heal.agents.pacer import NOMINAL_HZ
from heal.agents.runtime import open_runtime
from heal.alliance import Alliance, load_alliance
from heal.tools.benches.measure import BenchRow
from heal.tools.benches.runtime import AGENTS, EVERYWHERE_M, labelled_town
from heal.tools.shared.run_log import RunLog
from heal.tools.shared.type_argument import base_type

TICKS = 60


def bench_clock(alliance: Path) -> list[BenchRow]:
    """Run `heal bench clock` with the alliance in a folder."""
    opened, options = load_alliance(alliance).for_inference(), RunOptions(comm_range_m=EVERYWHERE_M)
    simulated = _run(opened, options)
    hurried = _run(opened, replace(options, realtime=True))
    rate_hz = NOMINAL_HZ if hurried.clock.kept_up else hurried.clock.sustained_hz(options) or NOMINAL_HZ
    sustained = _run(opened, replace(options, realtime=True, rate_hz=rate_hz))
    return [
        BenchRow("clock/simulated", value=_ap50(simulated), unit="AP50", note=f"{AGENTS} agents, simulated time"),
        BenchRow("clock/10-hz", value=_ap50(hurried), unit="AP50", note=f"by the wall clock; {_fate(hurried)}"),
        BenchRow("clock/sustained", value=_ap50(sustained), unit="AP50", note=f"--rate {rate_hz:g}; {_fate(sustained)}"),
    ]


def _run(alliance: Alliance, options: RunOptions) -> RunLog:
    log = RunLog.of(options, alliance.grid.range_m)
    source = labelled_town(AGENTS, TICKS)
    with open_runtime("ray", alliance, source, same_type(base_type(alliance)), PerfectNetwork(), options) as runtime:
        for result in runtime.run(range(TICKS)):
            log.add(result)
    return log


def _ap50(log: RunLog) -> float:
    return log.score.results().ap[0.5] or 0.0


def _fate(log: RunLog) -> str:
    """Return what became of the ticks and messages of a run."""
    return f"{log.clock.dropped} of {TICKS} ticks dropped, {log.counts.used} of {log.counts.sent} messages used"
