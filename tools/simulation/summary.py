"""The end of a simulation: metrics.json, the tables on the terminal, and the names of the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from heal.agents.deployment import GIVEN_UP
from heal.agents.options import RunOptions
from heal.tools.shared.run_log import RunLog
from heal.tools.shared.scoring import score_table
from heal.tools.simulation.plan import Plan


def write_metrics(plan: Plan, log: RunLog, rate_hz: float) -> None:
    """Write metrics.json: the log's metrics and the most important settings."""
    settings = plan.settings
    texts = {"runtime": plan.runtime, "link": settings.link, "codec": str(settings.run.codec), "split": settings.run.split}
    numbers = {"seed": plan.seed, "ticks_per_second": round(rate_hz, 2)}
    extra = {**({"data": plan.scenes.data} if plan.scenes.data else {}), **_realtime_metrics(log, settings.run)}
    plan.output.write_results({**log.metrics(), **texts, **numbers, **extra})


def print_summary(console: Console, log: RunLog, title: str, options: RunOptions) -> None:
    """Print the score, times, messages and faults of a run."""
    agents = log.score.agents
    console.print(score_table({f"{agents} agents" if agents > 1 else "ego alone": log.score}, title))
    console.print(log.table())
    if options.realtime:
        console.print(log.clock.text(options), soft_wrap=True, highlight=False)


def files_text(out: Path) -> str:
    """Return the files of a run, for its summary."""
    return f"report: {out / 'report.html'}   numbers: {out / 'metrics.json'}, {out / 'ticks.jsonl'}   animation: {out / 'run.gif'}"


def _realtime_metrics(log: RunLog, options: RunOptions) -> dict[str, Any]:
    """Return whether the run kept up with the wall clock; nothing for a run in simulated time."""
    return {"realtime": log.clock.metrics(options)} if options.realtime else {}


def require_all_agents(console: Console, log: RunLog) -> None:
    """End the command with status 1 if an agent was given up during the run: its results are those of fewer agents."""
    if lost := log.reasons[f"not sent: {GIVEN_UP}"]:
        console.print(
            f"error: agents were given up, and {lost} of their messages are missing: their processes ended again and again; where "
            "memory is short, raise deployment.agents_per_actor",
            soft_wrap=True,
            highlight=False,
        )
        raise typer.Exit(1)
