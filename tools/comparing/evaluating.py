"""The evaluations of one trained method, in a process of its own: all conditions side by side, so that a frame is encoded once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from heal.agent_types import TypesOf
from heal.agents.fusion.setting_aside import FUSION_FAILED
from heal.agents.interfaces import AllianceLike
from heal.agents.local_runtime import LocalRuntime
from heal.agents.network.spec import LinkSpec
from heal.agents.records import TickResult
from heal.alliance import Alliance
from heal.datasets.noise import SensorNoise
from heal.errors import UserError
from heal.grid import Range
from heal.storage.parts import copy_part
from heal.tools.checks.ranges import open_on_range
from heal.tools.comparing.data import DataFolder, assigned
from heal.tools.comparing.plan import Entrant, Evaluation
from heal.tools.comparing.spec import Join
from heal.tools.evaluation.late import LateAlliance
from heal.tools.evaluation.shown import sensor_kinds
from heal.tools.shared.output import write_json
from heal.tools.shared.scene_matches import SCENES_NAME, write_scenes
from heal.tools.shared.scoring import RunScore
from heal.tools.sweeps.memo import MemoAlliance, MemoSource
from heal.types import SceneSource

SCORE_NAME = "score.json"


@dataclass(frozen=True)
class Networks:
    """Where the networks of a trained method lie.

    Attributes:
        join: how its types have joined.
        parts: the alliance folder of each training, the base's first, or of the detector of each type.
        types: the agent types, in the order of the trainings.
        folder: where parts that belong together are put together, for `heal evaluate` and others too.
        range_m: the evaluated range; None for that of the training.
    """

    join: Join
    parts: tuple[Path, ...]
    types: tuple[str, ...]
    folder: Path
    range_m: Range | None = None

    def open(self) -> Alliance:
        """Open the networks; those of types that have joined a base are put together first."""
        if self.join == "detectors":
            return LateAlliance([open_on_range(part, self.range_m) for part in self.parts])
        if self.join == "joint":
            return open_on_range(self.parts[0], self.range_m)
        copy_part(self.parts[0], self.folder, "base")
        for kind, part in zip(self.types, self.parts, strict=True):
            copy_part(part, self.folder, kind)
        return open_on_range(self.folder, self.range_m)

    def open_fast(self) -> Alliance:
        """Open the networks for fast inference."""
        opened = self.open()
        if isinstance(opened, LateAlliance):
            return LateAlliance([member.for_inference() for member in opened.members])
        return opened.for_inference()


@dataclass(frozen=True)
class EvaluationTask:
    """The evaluations of a trained method that are not done yet.

    Attributes:
        entrant: the method with its data and its seed.
        evaluations: those that are run.
        networks: where its networks lie.
        data: the scenes.
        seed: of links, noise and lost messages.
        out: folder of all evaluations; each has a folder in it, by its key.
        device: device of the networks.
    """

    entrant: Entrant
    evaluations: tuple[Evaluation, ...]
    networks: Networks
    data: DataFolder
    seed: int
    out: Path
    device: str

    def run(self) -> dict[str, str]:
        """Evaluate, and write the results; return why evaluations could not be run, by key."""
        alliance = self.networks.open_fast()
        source, ticks = self.data.open_test(alliance.base.config.object_classes)
        memo: AllianceLike = alliance if isinstance(alliance, LateAlliance) else MemoAlliance(alliance)
        sensors = sensor_kinds(alliance)
        scores = {one.key: RunScore(alliance.grid.range_m, one.settings.run.use_z, sensors=sensors) for one in self.evaluations}
        side = _SideBySide(scores)
        scenes = MemoSource(source)
        for one in self.evaluations:
            with side.refusals(one.key):
                side.runs[one.key] = self._start(one, memo, scenes, assigned(source, one.types, one.rotate).types_of, ticks)
        for _ in ticks:
            side.step()
        for one in self.evaluations:
            if one.key not in side.refused:
                self._write(one, side.scores[one.key])
        return side.refused

    def _start(
        self, one: Evaluation, alliance: AllianceLike, source: SceneSource, types_of: TypesOf, ticks: Sequence[int]
    ) -> Iterator[TickResult]:
        """Return the ticks of an evaluation, each computed when it is asked for; UserError for what cannot be run."""
        scenes = SensorNoise.parse(one.settings.noise).around(source, self.seed)
        options = replace(one.settings.run, count_points=True, threads=1)
        for kind in one.types:
            alliance.agent(kind)
        network = LinkSpec.parse(one.settings.link).network(self.seed)
        return LocalRuntime(alliance, scenes, types_of, network, options, device=self.device).run(ticks)

    def _write(self, one: Evaluation, score: RunScore) -> None:
        """Write the matches of an evaluation, and last its numbers, which say that it is done."""
        write_scenes(self.out / one.key / SCENES_NAME, {one.condition: score.matches()})
        write_json(self.out / one.key / SCORE_NAME, {"method": self.entrant.title, "condition": one.condition, **score.metrics()})


class _SideBySide:
    """Runs that are at the same tick; one that is refused takes no other with it."""

    def __init__(self, scores: Mapping[str, RunScore]) -> None:
        self.scores, self.runs, self.refused = scores, dict[str, Iterator[TickResult]](), dict[str, str]()

    @contextmanager
    def refusals(self, key: str) -> Iterator[None]:
        """Keep an error that the user can correct, instead of raising it."""
        try:
            yield
        except UserError as error:
            self.refused[key] = str(error)
            self.runs.pop(key, None)

    def step(self) -> None:
        """Add a tick to the score of every run."""
        for key, run in list(self.runs.items()):
            with self.refusals(key):
                result = next(run)
                _require_fused(result)
                self.scores[key].add(result, result.visibility)


def _require_fused(result: TickResult) -> None:
    """Raise UserError if the fusion node could not fuse messages: the boxes are those of the ego alone then."""
    for message in result.messages:
        if message.reason == FUSION_FAILED:
            raise UserError(f"scene {result.scene_id}: the message of {message.agent_id} was not fused: {message.explanation}")


def is_done(evaluation: Evaluation, out: Path) -> bool:
    """Return whether an evaluation has been written."""
    return (out / evaluation.key / SCORE_NAME).exists()
