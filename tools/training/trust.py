"""The trust in a new agent type: how much its maps may weigh beside those of the type that its base was trained with.

A type that locates vehicles less well than the others pulls their boxes aside where both see them. Its trust is found on validation
scenes in both roles: the ego is of the base's first type and all others are of the new type, and the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console

from heal.agent_model import AgentModel
from heal.agent_types import TypesOf
from heal.agents.local_runtime import LocalRuntime
from heal.agents.options import RunOptions
from heal.alliance import Alliance, AllianceError
from heal.datasets.dataset import DatasetError
from heal.detection.metrics import ApAccumulator, FrameMatch
from heal.layers.inference import for_inference
from heal.tools.shared.scoring import spread_evenly
from heal.tools.shared.type_argument import base_type
from heal.tools.sweeps.memo import MemoAlliance, MemoEncoder, MemoSource
from heal.tools.terminal.progress import track
from heal.training.config import ScheduleConfig
from heal.training.drawing import agents_in_training
from heal.types import SceneOutline, SceneSource

LEVELS = (1.0, 0.3, 0.1, 0.03)
"""The trusts that are compared, the highest first."""

SCENES = 40
"""Scenes that are used at most, evenly spread over the validation scenes."""

_BETTER = 0.002  # a lower trust has to be better by this


class _TrustingAlliance(MemoAlliance):
    """An alliance and a type beside it, whose trust can be set."""

    def __init__(self, alliance: Alliance, name: str, model: AgentModel) -> None:
        """Wrap an alliance; `model` is of the type `name` and is trained on the alliance's grid or on a part of it."""
        super().__init__(alliance.for_inference())
        self._encoders[name] = MemoEncoder(for_inference(model.on_grid(alliance.sensed_grid)))
        self.name, self.trust = name, 1.0

    @property
    def agent_names(self) -> tuple[str, ...]:
        """The names of the agent types, with that of the type beside the alliance."""
        return tuple(sorted({*super().agent_names, self.name}))

    def trust_of(self, name: str) -> float:
        """Return the trust in a type."""
        return self.trust if name == self.name else super().trust_of(name)


def calibrate_trust(
    alliance: Alliance,
    name: str,
    model: AgentModel,
    source: SceneSource | None,
    training: ScheduleConfig,
    console: Console,
    otherwise: float = 1.0,
) -> float:
    """Return the trust with the highest mean of AP@0.5 and AP@0.7; `otherwise` if it cannot be found.

    Args:
        alliance: with the base and its own agent type.
        name: of the new type.
        model: the new type, aligned to the base.
        source: validation scenes; None if there are none.
        training: of the type; says which agents can be of the type, and how far away they may be.
        console: where the result or the obstacle is printed.
        otherwise: trust where it cannot be found, such as that of the type from which the training started.
    """
    try:
        scores, ego_type = _scores_beside(alliance, name, model, source, training, console)
    except _NoScoresError as obstacle:
        console.print(f"the trust in {name} is {otherwise:g}: {obstacle}", markup=False, highlight=False)
        return otherwise
    best = choose_trust(scores)
    texts = ", ".join(f"{trust:g}: {score:.3f}" for trust, score in scores.items())
    console.print(f"the trust in {name} is {best:g} (mean AP beside {ego_type} by trust: {texts})", markup=False, highlight=False)
    return best


def choose_trust(scores: Mapping[float, float]) -> float:
    """Return the trust with the best score; a higher trust is preferred to a lower one that is hardly better."""
    best = max(scores)
    for trust in sorted(scores, reverse=True):
        if scores[trust] > scores[best] + _BETTER:
            best = trust
    return best


class _NoScoresError(Exception):
    """Trusts cannot be compared; the message says why."""


def _scores_beside(
    alliance: Alliance, name: str, model: AgentModel, source: SceneSource | None, training: ScheduleConfig, console: Console
) -> tuple[dict[float, float], str]:
    """Return the mean of AP@0.5 and AP@0.7 over both roles for every trust, and the type beside the new one.

    Raises:
        _NoScoresError: there is no such type, or no scene with a partner that can be read.
    """
    if source is None:
        raise _NoScoresError("there are no validation scenes")
    try:
        ego_type = base_type(alliance)
    except AllianceError as error:
        raise _NoScoresError(str(error)) from error
    if ego_type == name:
        raise _NoScoresError("it is the ego's own type")
    roles = [_as_partners(name, ego_type, training), _as_ego(name, ego_type, training)]
    ticks = [i for i in range(len(source)) if any(len(types_of(source.outline(i))) > 1 for types_of in roles)]
    trials = _Trials(_TrustingAlliance(alliance, name, model), MemoSource(source), roles, training.comm_range_m)
    chosen = spread_evenly(ticks, SCENES)
    for tick in track(chosen, "calibrating trust", len(chosen), console, transient=True):
        trials.run(tick)
    scores = trials.scores()
    if not scores:
        raise _NoScoresError(trials.problem or "no scene has a partner")
    if trials.problem:
        console.print(f"a scene is left out of the search for the trust: {trials.problem}", markup=False, highlight=False)
    return scores, ego_type


class _Trials:
    """The AP of every trust in every role."""

    def __init__(self, alliance: _TrustingAlliance, source: SceneSource, roles: Sequence[TypesOf], comm_range_m: float) -> None:
        """Score no scene yet."""
        self._alliance, self._source, self._roles = alliance, source, roles
        self._options = RunOptions(comm_range_m=comm_range_m, correct_poses="off", guard="off")
        self._found = {(trust, role): ApAccumulator() for trust in LEVELS for role in range(len(roles))}
        self.problem = ""
        """Why the last scene that could not be read was left out."""

    def run(self, tick: int) -> None:
        """Add a scene under every trust in every role that it has, or in none if its files cannot be read."""
        outline = self._source.outline(tick)
        roles = [role for role, types_of in enumerate(self._roles) if len(types_of(outline)) > 1]
        try:
            matches = {key: self._match(tick, *key) for key in self._found if key[1] in roles}
        except DatasetError as error:
            self.problem = str(error)
            return
        for key, match in matches.items():
            self._found[key].add_match(match)

    def _match(self, tick: int, trust: float, role: int) -> FrameMatch:
        self._alliance.trust = trust
        with LocalRuntime(self._alliance, self._source, self._roles[role], options=self._options) as runtime:
            return next(runtime.run([tick])).match

    def scores(self) -> dict[float, float]:
        """Return the mean AP over the roles that have a scene, by trust; empty without any."""
        parts = {trust: [_mean_ap(ap) for (of, _), ap in self._found.items() if of == trust] for trust in LEVELS}
        known = {trust: [score for score in scores if score is not None] for trust, scores in parts.items()}
        return {trust: sum(scores) / len(scores) for trust, scores in known.items() if scores}


def _as_partners(name: str, ego_type: str, training: ScheduleConfig) -> TypesOf:
    """Return the types of scenes whose ego is of the base's type, and whose other agents, if they may be, of the new one."""

    def types_of(outline: SceneOutline) -> dict[str, str]:
        partners = [agent_id for agent_id in agents_in_training(outline, training) if agent_id != outline.ego_id]
        return {outline.ego_id: ego_type, **dict.fromkeys(partners, name)}

    return types_of


def _as_ego(name: str, ego_type: str, training: ScheduleConfig) -> TypesOf:
    """Return the types of scenes whose ego is of the new type, and whose other agents are of the base's; none if it may not be."""

    def types_of(outline: SceneOutline) -> dict[str, str]:
        if outline.ego_id not in agents_in_training(outline, training):
            return {}
        return {**dict.fromkeys(outline.ego_first, ego_type), outline.ego_id: name}

    return types_of


def _mean_ap(ap: ApAccumulator) -> float | None:
    values = [ap.results().ap[threshold] for threshold in (0.5, 0.7)]
    known: Sequence[float] = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
