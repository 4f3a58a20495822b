"""`heal generate`: write many small towns to disk in OPV2V's layout."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from multiprocessing.context import SpawnContext
    from multiprocessing.synchronize import Event

    from heal.datasets.town.opv2v_writer import ScenarioReport
    from heal.types import Sensor

SEEDS_PER_RUN = 1_000_000
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Written(str, Enum):
    """What is written besides the metadata."""

    LIDAR = "lidar"
    ALL = "all"


@dataclass(frozen=True)
class Job:
    """One scenario to write; small enough to send to another process."""

    preset: str
    split: str
    seed: int
    frames: int
    stride: int
    sensors: frozenset[Sensor]
    root: Path


class Interrupted(Exception):  # noqa: N818 - it is a wish of the user, not an error
    """The user wants to stop."""


def generate(
    out: Annotated[Path, typer.Argument(help="Folder that gets OPV2V and OPV2V_Hetero.")],
    preset: Annotated[str, typer.Option(help="Kind of town: demo, easy, dense, crossing or test.")] = "demo",
    split: Annotated[str, typer.Option(help="train, validate or test; their towns are never the same.")] = "train",
    frames: Annotated[int, typer.Option(min=1, help="Instants in all; each is sensed by all agents.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds give other towns.")] = 0,
    sensors: Annotated[
        Written, typer.Option(help="lidar: clouds and metadata; all: images, depth, 16- and 32-line clouds too.")
    ] = Written.ALL,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Write scenes of the built-in town in the layout of OPV2V.

    Equal arguments give equal files. Scenarios that are there already are kept, so an interrupted run goes on where it stopped.

    \b
    heal generate runs/town --preset demo --split test --frames 100 --seed 1 --sensors lidar
    heal generate runs/town --split train --frames 800 --sensors lidar --workers 4
    heal generate runs/pictures --split test --frames 4 --sensors all
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    console, started = Console(), time.monotonic()
    jobs = plan(out, preset, split, frames, seed, sensors)
    try:
        reports = run_jobs(jobs, workers, console)
    except (KeyboardInterrupt, Interrupted):
        console.print("stopped; the same command goes on from here")
        raise typer.Exit(130) from None
    _summarise(reports, time.monotonic() - started, out, console)


def plan(out: Path, preset: str, split: str, frames: int, seed: int, sensors: Written) -> list[Job]:
    """The scenarios that make up `frames` instants, each a town of its own.

    Raises:
        ValueError: for an unknown preset or split.
    """
    from heal.datasets.town import town_preset
    from heal.datasets.town.seeds import random_stream

    chosen = town_preset(preset)
    random_stream(split, seed)
    each = chosen.frames_per_scenario
    names: frozenset[Sensor] = frozenset({"lidar"}) if sensors is Written.LIDAR else frozenset({"lidar", "camera", "depth"})
    return [
        Job(preset, split, seed * SEEDS_PER_RUN + number, min(each, frames - number * each), chosen.stride, names, out)
        for number in range(-(-frames // each))
    ]


def run_jobs(jobs: list[Job], workers: int, console: Console) -> list[ScenarioReport]:
    """Write all scenarios, in as many processes as are wanted, and report on them in the order of `jobs`."""
    columns = TextColumn("towns"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("towns", total=len(jobs))
        reports: dict[int, ScenarioReport] = {}
        for number, report in _write_one_by_one(jobs) if min(workers, len(jobs)) == 1 else _write_in_parallel(jobs, workers):
            reports[number] = report
            progress.advance(task)
    return [reports[number] for number in range(len(jobs))]


def _write_one_by_one(jobs: list[Job]) -> Iterator[tuple[int, ScenarioReport]]:
    for number, job in enumerate(jobs):
        yield number, write_job(job)


def _write_in_parallel(jobs: list[Job], workers: int) -> Iterator[tuple[int, ScenarioReport]]:
    """Fresh processes with one thread each; on an interrupt they stop at the next agent's frame."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    with _one_thread_each(), _executor(context, min(workers, len(jobs)), stop) as executor:
        futures = {executor.submit(write_job, job): number for number, job in enumerate(jobs)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            stop.set()
            executor.shutdown(wait=True, cancel_futures=True)
            raise


def _executor(context: SpawnContext, workers: int, stop: Event) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker, initargs=(stop,))


_stop: Event | None = None


def _prepare_worker(stop: Event) -> None:
    """Leave Ctrl-C to the parent, which says when to stop."""
    import signal

    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def write_job(job: Job) -> ScenarioReport:
    """Write one scenario."""
    from heal.datasets.town import TownSource
    from heal.datasets.town.opv2v_writer import write_opv2v

    def keep_going() -> None:
        if _stop is not None and _stop.is_set():
            raise Interrupted

    return write_opv2v(TownSource(job.preset, job.seed, job.frames, job.split, job.sensors, job.stride), job.root, keep_going)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started inside compute with one thread: more of them would only fight for the cores."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _summarise(reports: list[ScenarioReport], seconds: float, out: Path, console: Console) -> None:
    labelled, hidden = (sum(getattr(report, name) * 1 for report in reports) for name in ("labelled", "hidden"))
    frames = sum(report.frames for report in reports)
    table = Table(title=f"{out}", show_header=False)
    table.add_row("towns", f"{len(reports)} ({sum(not report.written for report in reports)} were there already)")
    table.add_row("instants", f"{frames}")
    table.add_row("agents' frames", f"{sum(report.frames * report.agents for report in reports)}")
    table.add_row("vehicles labelled within 51.2 m of the ego", f"{labelled} ({labelled / frames:.1f} an instant)")
    table.add_row("hidden: ego < 5 points, another agent > 20", f"{hidden} ({hidden / max(labelled, 1):.1%})")
    table.add_row("seconds", f"{seconds:.1f} ({seconds / frames:.2f} an instant)")
    console.print(table)
