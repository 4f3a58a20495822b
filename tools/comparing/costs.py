"""What methods cost: parameters that are trained, operations in a frame, seconds of a frame and of the trainings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import islice
from time import perf_counter

from rich.console import Console

from heal.agents.local_runtime import LocalRuntime
from heal.agents.records import TickResult
from heal.alliance import Alliance
from heal.datasets.dataset import Dataset
from heal.errors import UserError
from heal.tools.comparing.data import assigned
from heal.tools.comparing.evaluating import is_done
from heal.tools.comparing.joining import JoiningParameters, joining_parameters
from heal.tools.comparing.plan import Entrant, Evaluation
from heal.tools.comparing.training import seconds_of
from heal.tools.comparing.work import Workshop
from heal.tools.profiling.flops import count, sparse_counts
from heal.tools.shared.output import write_json
from heal.tools.shared.scoring import spread_evenly
from heal.tools.sweeps.memo import MemoSource
from heal.tools.terminal.progress import track
from heal.types import SceneSource

TIMED_TICKS = 4
COSTS_FOLDER = "costs"


@dataclass(frozen=True)
class FrameCosts:
    """What a frame costs.

    Attributes:
        gflop: operations in units of 10^9, of all agents that take part and the fusion node.
        frame_s: seconds on one thread, without reading the sensor data.
    """

    gflop: float
    frame_s: float


@dataclass(frozen=True)
class MethodCosts:
    """What a method costs on a data set.

    Attributes:
        parameters: of its networks, and those that are trained when types join.
        frame: of its frames.
        training_s: seconds of all trainings, with that of a teacher, the mean over the seeds.
        joining_s: seconds of the trainings in which the further types join, likewise.
    """

    parameters: JoiningParameters
    frame: FrameCosts
    training_s: float
    joining_s: float

    def numbers(self) -> dict[str, float]:
        """Return all numbers by the names that the table of costs has."""
        counted = self.parameters
        return {
            "parameters": counted.in_all,
            "trained_at_last_join": counted.at_last,
            "trained_one_by_one": counted.one_by_one,
            "trained_at_once": counted.at_once,
            **asdict(self.frame),
            "training_s": self.training_s,
            "joining_s": self.joining_s,
        }


def measure_costs(shop: Workshop, console: Console) -> dict[tuple[str, str], MethodCosts]:
    """Measure the costs of every method that has been evaluated, by data set and method.

    A frame is one of the first condition under which all methods have a result. Frames are timed here, one method after the other
    while nothing else of the comparison runs; what was measured earlier is kept.
    """
    chosen: dict[tuple[str, str], list[Entrant]] = {}
    for entrant in shop.plan.entrants:
        if any(is_done(one, shop.evaluated) for one in entrant.evaluations):
            chosen.setdefault((entrant.data, entrant.method), []).append(entrant)
    condition = _common_condition(shop, [entrant for entrants in chosen.values() for entrant in entrants])
    shown = track(chosen.items(), "costs of the methods", len(chosen), console, transient=True)
    found = {where: _costs_or_why_not(shop, entrants, condition, console) for where, entrants in shown}
    return {where: costs for where, costs in found.items() if costs is not None}


def _costs_or_why_not(shop: Workshop, entrants: Sequence[Entrant], condition: str, console: Console) -> MethodCosts | None:
    """Return the costs of a method; None, after printing why, if it cannot be run, or what was trained is no longer there."""
    try:
        return _costs_of(shop, entrants, condition)
    except (UserError, FileNotFoundError) as error:
        console.print(f"no costs of {entrants[0].title}: {error}", markup=False, highlight=False)
        return None


def _common_condition(shop: Workshop, entrants: Sequence[Entrant]) -> str:
    """Return the first condition that all methods have been evaluated under; the first one if there is none."""
    names = list(shop.plan.spec.conditions)
    done = ({one.condition for one in entrant.evaluations if is_done(one, shop.evaluated)} for entrant in entrants)
    common = set(names).intersection(*done)
    return next((name for name in names if name in common), names[0])


def _costs_of(shop: Workshop, entrants: Sequence[Entrant], condition: str) -> MethodCosts:
    """Return the costs of a method, given with each of its seeds."""
    entrant = entrants[0]
    one = next(one for one in entrant.evaluations if one.condition == condition)
    path = shop.out / COSTS_FOLDER / f"{one.key}.json"
    if not path.exists():
        write_json(path, asdict(_of_frame(shop, entrant, one)))
    frame = FrameCosts(**json.loads(path.read_text(encoding="utf-8")))
    seconds = [[seconds_of(shop.trained(key)) for key in one.trainings] for one in entrants]
    taught = [sum(seconds_of(shop.trained(key)) for key in _teachers(shop, one)) for one in entrants]
    later = [sum(each) + more if entrant.join == "joint" else sum(each[1:]) for each, more in zip(seconds, taught, strict=True)]
    whole = sum(map(sum, seconds)) + sum(taught)
    return MethodCosts(joining_parameters(shop.plan, entrant), frame, whole / len(seconds), sum(later) / len(later))


def _teachers(shop: Workshop, entrant: Entrant) -> set[str]:
    """Return the keys of the trainings whose bases teach those of a method."""
    return {teacher for key in entrant.trainings if (teacher := shop.plan.trainings[key].teacher)}


def _of_frame(shop: Workshop, entrant: Entrant, one: Evaluation) -> FrameCosts:
    """Measure the operations and the time of a frame."""
    networks, types = shop.networks(entrant), tuple(shop.plan.spec.types)
    plain = networks.open()
    source, ticks = shop.data(entrant.data).open_test()
    timed, scenes = spread_evenly(ticks, TIMED_TICKS), MemoSource(source)
    flops = _operations(plain, types, _run(plain, source, scenes, one, _fullest(source, ticks)))
    fast = networks.open_fast()
    list(_run(fast, source, scenes, one, timed))  # the first pass reads the data and warms up
    began = perf_counter()
    frames = sum(1 for _ in _run(fast, source, scenes, one, timed))
    frame_s = (perf_counter() - began) / frames
    return FrameCosts(flops / 1e9, frame_s)


def _fullest(source: Dataset, ticks: Sequence[int]) -> list[int]:
    """Return the first scene with the most agents."""
    return [max(ticks, key=lambda tick: (len(source.listed(tick).agent_ids), -tick))]


def _operations(alliance: Alliance, types: Sequence[str], run: Iterator[TickResult]) -> int:
    """Count the operations of a run of one tick."""
    with ExitStack() as stack:
        sparse = [stack.enter_context(sparse_counts(alliance.agent(kind).encoder)) for kind in types]
        counted, _ = count(lambda: list(islice(run, 1)))
    return counted + sum(map(sum, sparse))


def _run(alliance: Alliance, source: Dataset, scenes: SceneSource, one: Evaluation, ticks: Sequence[int]) -> Iterator[TickResult]:
    """Return ticks under a condition, without its links and noise, which cost nothing; each is computed when it is asked for."""
    types_of, options = assigned(source, one.types, one.rotate).types_of, replace(one.settings.run, threads=1)
    return LocalRuntime(alliance, scenes, types_of, options=options).run(ticks)
