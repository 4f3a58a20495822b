"""The run of a simulation: every tick is scored, written, drawn and shown beside the run's clock."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, TextIO

from rich.console import Console

from heal.agents.on_ray.prometheus import metrics_address
from heal.agents.records import TickResult
from heal.errors import naming_errors_after
from heal.tools.pictures.draw import draw_frame, draw_tick, save_animation
from heal.tools.shared.output import TICKS_NAME
from heal.tools.shared.run_log import tick_line
from heal.tools.shared.scoring import spread_evenly
from heal.tools.simulation.beside import Beside
from heal.tools.simulation.plan import Plan, open_run
from heal.tools.terminal.progress import progress_bar, track

ANIMATION_FRAMES = 24


class TickListener(Protocol):
    """An object that receives every tick of a run."""

    def add(self, result: TickResult) -> None:
        """Receive a tick that has been run."""
        ...


@dataclass
class Pace:
    """The rate of a run, measured from the end of the first tick, in which networks are loaded in simulated time.

    Attributes:
        ticks: number of ticks so far.
        first_s: end of the first tick, by the monotonic clock.
        last_s: end of the last tick.
    """

    ticks: int = 0
    first_s: float = 0.0
    last_s: float = 0.0

    def add(self, result: TickResult) -> None:
        """Count a tick that has just ended."""
        self.last_s = time.monotonic()
        self.first_s = self.first_s if self.ticks else self.last_s
        self.ticks += 1

    @property
    def rate_hz(self) -> float:
        """Ticks per second."""
        return (self.ticks - 1) / max(self.last_s - self.first_s, 1e-9)


def run_plan(plan: Plan, listeners: Sequence[TickListener], pace: Pace, console: Console) -> None:
    """Run all ticks, hand each to the listeners, and write run.yaml, ticks.jsonl and the pictures; `pace` measures the run."""
    ticks, shown = plan.scenes.ticks, list[TickResult]()
    animated = frozenset(spread_evenly(ticks, ANIMATION_FRAMES)) | {ticks[-1]}
    all_views = plan.pictures or plan.viewer.wants_views
    options = replace(plan.settings.run, keep_views=True if all_views else animated, count_points=True)

    def handle(result: TickResult) -> None:
        for listener in listeners:
            listener.add(result)
        if result.tick in animated:
            shown.append(result)

    try:
        with (
            progress_bar("starting", len(ticks), console) as bar,
            open_run(plan, options) as runtime,
            _open_ticks(plan) as lines,
            Beside(handle, lambda result: _draw_tick(plan, result), options.realtime) as beside,
        ):
            if plan.settings.deployment.collects_metrics and (address := metrics_address()):
                console.print(f"metrics: {address}", soft_wrap=True)
            bar.describe("first tick")  # in it agents load their networks, and towns are built
            for result in runtime.run(ticks):
                bar.describe("simulating")
                bar.advance()
                pace.add(result)
                lines.write(json.dumps(tick_line(result)) + "\n")
                beside.add(result)
    finally:
        if shown:
            draw_tick(shown[-1], plan.range_m, plan.output.folder / "last_tick.png", margin=plan.output.made_by.margin)
    _draw_animation(plan, shown, console)


def _draw_tick(plan: Plan, result: TickResult) -> None:
    """Draw a tick if every tick is to be drawn."""
    if plan.pictures:
        path = plan.output.folder / "pictures" / f"tick_{result.tick:06d}.png"
        draw_tick(result, plan.range_m, path, margin=plan.output.made_by.margin)


def _draw_animation(plan: Plan, shown: Sequence[TickResult], console: Console) -> None:
    margin = plan.output.made_by.margin
    frames = [draw_frame(result, plan.range_m, margin=margin) for result in track(shown, "drawing", len(shown), console)]
    save_animation(frames, plan.output.folder / "run.gif")


@contextmanager
def _open_ticks(plan: Plan) -> Iterator[TextIO]:
    """Start the output, and open ticks.jsonl, into which each tick is written as soon as it has been run."""
    plan.output.start(plan.settings)
    path = plan.output.folder / TICKS_NAME
    with naming_errors_after(path), path.open("w", buffering=1, encoding="utf-8") as lines:
        yield lines
