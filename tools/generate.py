"""`heal generate`: write scenarios of the built-in town to disk in OPV2V's layout."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from heal.agents.process import changed_environment, end_with_parent
from heal.errors import UserError, naming_errors_after
from heal.tools.shared.output import try_folder
from heal.tools.shared.preset_option import PresetArg
from heal.tools.terminal.progress import progress_bar

if TYPE_CHECKING:
    from multiprocessing.context import SpawnContext
    from multiprocessing.synchronize import Event

    from heal.datasets.town.camera_options import CameraOptions
    from heal.datasets.town.opv2v_writer import ScenarioReport
    from heal.types import Sensor

SEEDS_PER_RUN = 1_000_000
STOP_S = 5.0
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class SensorSet(str, Enum):
    """The sensor data that is written besides the metadata."""

    LIDAR = "lidar"
    ALL = "all"


SensorsArg = Annotated[
    SensorSet, typer.Option(help="lidar: point clouds; all: also images, depth images, and clouds of 16 and 32 lines.")
]
FramesPerTownArg = Annotated[
    int | None, typer.Option(min=1, help="Number of instants of each town. Default: the preset's number, 4 for demo.")
]
ImageSizeArg = Annotated[
    str | None,
    typer.Option(
        help="Width and height of the images, such as 256x192; the horizontal view stays the same. "
        "Default: the preset's, 400x300 for demo."
    ),
]
SmoothArg = Annotated[bool, typer.Option(help="Smooth the edges in the images; without it rendering takes less time.")]
CameraAgentsArg = Annotated[
    str, typer.Option(help="Agents with cameras: all, vehicles, roadside or ego; other agents have only a LiDAR.")
]
DepthStepArg = Annotated[
    float,
    typer.Option(
        help="Step of the depth images in metres. 1: 8-bit images as in OPV2V; from 0.01 on: 16-bit images, see docs/data.md."
    ),
]


@dataclass(frozen=True)
class ScenarioJob:
    """One scenario to write, as sent to a worker process.

    Attributes:
        preset: kind of town.
        split: split of the data set.
        seed: of the town.
        frames: number of instants.
        stride: number of ticks of 0.1 s from one instant to the next.
        sensors: sensors that are written.
        cameras: what is rendered of the cameras.
        root: folder of the data set.
    """

    preset: str
    split: str
    seed: int
    frames: int
    stride: int
    sensors: frozenset[Sensor]
    cameras: CameraOptions
    root: Path


@dataclass(frozen=True)
class TownChoice:
    """The towns to write.

    Attributes:
        preset: kind of town.
        split: split of the data set.
        frames: number of instants over all towns.
        seed: of the towns.
        frames_each: number of instants of a town; None for the preset's own number.
    """

    preset: str
    split: str
    frames: int
    seed: int
    frames_each: int | None = None


class Interrupted(Exception):  # noqa: N818 - the user asks for it, so it is no error
    """A worker process has stopped because the user has interrupted the command."""


def generate(
    out: Annotated[Path, typer.Argument(help="Folder in which the folders OPV2V and OPV2V_Hetero are made.")],
    preset: PresetArg = "demo",
    split: Annotated[str, typer.Option(help="train, validate or test; no town is in two splits.")] = "train",
    frames: Annotated[int, typer.Option(min=1, help="Number of instants over all scenarios; all agents sense each instant.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the towns.")] = 0,
    sensors: SensorsArg = SensorSet.ALL,
    frames_per_town: FramesPerTownArg = None,
    image_px: ImageSizeArg = None,
    smooth: SmoothArg = True,
    camera_agents: CameraAgentsArg = "all",
    depth_step_m: DepthStepArg = 1.0,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 2,
) -> None:
    """Write scenes of the built-in town in the layout of OPV2V.

    Equal arguments give equal files. Existing scenarios are kept: repeat an interrupted command to write the missing ones.

    \b
    heal generate runs/town --preset demo --split test --frames 100 --seed 1 --sensors lidar
    heal generate runs/town --split train --frames 800 --sensors lidar --workers 4
    heal generate runs/pictures --split test --frames 4 --sensors all
    heal generate runs/rain --preset roundabout+weather=rain+lidar=spinning128 --frames 8 --sensors lidar
    heal generate runs/cameras --frames 40 --image-px 256x192 --no-smooth --camera-agents ego --frames-per-town 8
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    console, started = Console(), time.monotonic()
    cameras = camera_options(sensors, image_px, smooth, camera_agents, depth_step_m)
    jobs = plan_scenarios(out, TownChoice(preset, split, frames, seed, frames_per_town), sensors, cameras)
    try_folder(out)
    try:
        with naming_errors_after(out):
            reports = write_scenarios(jobs, workers, console)
    except (KeyboardInterrupt, Interrupted):
        console.print("stopped; the same command writes the missing scenarios")
        raise typer.Exit(130) from None
    _print_summary(reports, time.monotonic() - started, out, console)


def camera_options(sensors: SensorSet, image_px: str | None, smooth: bool, agents: str, depth_step_m: float) -> CameraOptions:
    """Return what is rendered of the cameras; UserError if the options are wrong, or if no camera is written."""
    from heal.datasets.town.camera_options import AS_THE_PRESET, CameraOptions

    options = CameraOptions(None if image_px is None else _parse_size(image_px), smooth, agents, depth_step_m)
    if sensors is SensorSet.LIDAR and options != AS_THE_PRESET:
        raise UserError(f"--sensors lidar writes no images, but options of the cameras were given: {options.changes()}")
    return options


def _parse_size(text: str) -> tuple[int, int]:
    """Return width and height of a size like 256x192; UserError for another form."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise UserError(f"--image-px: expected WIDTHxHEIGHT such as 256x192, got {text!r}")
    return int(match[1]), int(match[2])


def plan_scenarios(out: Path, towns: TownChoice, sensors: SensorSet, cameras: CameraOptions) -> list[ScenarioJob]:
    """Return the scenarios that together have all instants, each in its own town.

    Raises:
        ValueError: the preset or split is unknown.
    """
    from heal.datasets.town import town_preset
    from heal.datasets.town.seeds import random_stream

    chosen = town_preset(towns.preset)
    random_stream(towns.split, towns.seed)  # checks the split
    frames_each = towns.frames_each or chosen.frames_per_scenario
    names: frozenset[Sensor] = frozenset({"lidar"}) if sensors is SensorSet.LIDAR else frozenset({"lidar", "camera", "depth"})
    return [
        ScenarioJob(
            preset=towns.preset,
            split=towns.split,
            seed=towns.seed * SEEDS_PER_RUN + number,
            frames=min(frames_each, towns.frames - number * frames_each),
            stride=chosen.stride,
            sensors=names,
            cameras=cameras,
            root=out,
        )
        for number in range(-(-towns.frames // frames_each))
    ]


def write_scenarios(jobs: list[ScenarioJob], workers: int, console: Console) -> list[ScenarioReport]:
    """Write all scenarios in up to `workers` processes, with a progress bar; return the reports in the order of `jobs`."""
    with progress_bar("towns", len(jobs), console) as bar:
        reports: dict[int, ScenarioReport] = {}
        for number, report in _write_in_this_process(jobs) if min(workers, len(jobs)) == 1 else _write_in_processes(jobs, workers):
            reports[number] = report
            bar.advance()
    return [reports[number] for number in range(len(jobs))]


def _write_in_this_process(jobs: list[ScenarioJob]) -> Iterator[tuple[int, ScenarioReport]]:
    """Write the scenarios one after the other; yield the number and report of each."""
    for number, job in enumerate(jobs):
        yield number, write_scenario(job)


def _write_in_processes(jobs: list[ScenarioJob], workers: int) -> Iterator[tuple[int, ScenarioReport]]:
    """Write the scenarios in new processes with one thread each; yield the number and report of each finished scenario.

    On an interrupt every process stops before its next frame of an agent, or is ended after `STOP_S`.
    """
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    one_thread_each = changed_environment(dict.fromkeys(_THREAD_VARIABLES, "1"))  # they share the cores
    with one_thread_each, _executor(context, min(workers, len(jobs)), stop) as executor:
        futures = {executor.submit(write_scenario, job): number for number, job in enumerate(jobs)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            stop.set()
            _end_processes(executor)
            raise


def _end_processes(executor: ProcessPoolExecutor) -> None:
    """Wait until the processes of a pool have stopped; those that have not after `STOP_S` are ended."""
    from multiprocessing import active_children

    end = threading.Timer(STOP_S, lambda children: [child.terminate() for child in children], [active_children()])
    end.start()
    executor.shutdown(cancel_futures=True)
    end.cancel()


def _executor(context: SpawnContext, workers: int, stop: Event) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker, initargs=(stop,))


_stop_event: Event | None = None


def _prepare_worker(stop: Event) -> None:
    """Ignore Ctrl-C in a worker process: the parent process handles it and sets `stop`. The worker ends if the parent is killed."""
    import signal

    global _stop_event
    _stop_event = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def write_scenario(job: ScenarioJob) -> ScenarioReport:
    """Write one scenario; Interrupted if the parent process has asked the worker to stop."""
    from heal.datasets.town import TownSource
    from heal.datasets.town.opv2v_writer import write_opv2v

    def raise_if_stopped() -> None:
        if _stop_event is not None and _stop_event.is_set():
            raise Interrupted

    source = TownSource(job.preset, job.seed, job.frames, job.split, job.sensors, job.stride, job.cameras)
    return write_opv2v(source, job.root, raise_if_stopped)


def _print_summary(reports: list[ScenarioReport], seconds: float, out: Path, console: Console) -> None:
    """Print a table of what has been written, with the number of vehicles hidden from the ego."""
    labelled, hidden = (sum(getattr(report, name) * 1 for report in reports) for name in ("labelled", "hidden"))
    frames = sum(report.frames for report in reports)
    table = Table(title=f"{out}", show_header=False)
    table.add_row("towns", f"{len(reports)} ({sum(not report.written for report in reports)} existed already)")
    table.add_row("instants", f"{frames}")
    table.add_row("agents' frames", f"{sum(report.frames * report.agents for report in reports)}")
    table.add_row("vehicles labelled within 51.2 m of the ego", f"{labelled} ({labelled / frames:.1f} an instant)")
    table.add_row("hidden: ego < 5 points, another agent > 20", f"{hidden} ({hidden / max(labelled, 1):.1%})")
    table.add_row("seconds", f"{seconds:.1f} ({seconds / frames:.2f} an instant)")
    console.print(table)
