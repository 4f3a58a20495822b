"""The trust in a new agent type: how much its maps may weigh beside those of the type that its base was trained with.

A type that locates vehicles less well than the others pulls their boxes aside where both see them. Its trust is found on validation
scenes in both roles: the ego is of the base's first type and all others are of the new type, and the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.progress import track

from heal.agent_types import TypesOf
from heal.agents.local_runtime import LocalRuntime
from heal.agents.options import RunOptions
from heal.alliance import Alliance
from heal.datasets.dataset import DatasetError
from heal.detection.metrics import ApAccumulator
from heal.tools.sweeps.memo import MemoAlliance, MemoSource
from heal.training.batches import agents_in_training
from heal.training.config import ScheduleConfig
from heal.types import SceneOutline, SceneSource

LEVELS = (1.0, 0.3, 0.1, 0.03)
"""The trusts that are compared, the highest first."""

SCENES = 40
"""Scenes that are used at most, evenly spread over the validation scenes."""

_BETTER = 0.002  # a lower trust has to be better by this


class _TrustingAlliance(MemoAlliance):
    """An alliance with one type whose trust can be set."""

    def __init__(self, alliance: Alliance, name: str) -> None:
        """Wrap an alliance; the type is trusted fully at first."""
        super().__init__(alliance)
        self.name, self.trust = name, 1.0

    def trust_of(self, name: str) -> float:
        """Return the trust in a type."""
        return self.trust if name == self.name else super().trust_of(name)


def calibrate_trust(
    alliance: Alliance,
    name: str,
    source: SceneSource | None,
    training: ScheduleConfig,
    console: Console,
    otherwise: float = 1.0,
) -> float:
    """Return the trust with the highest mean of AP@0.5 and AP@0.7; `otherwise` if it cannot be found.

    Args:
        alliance: with the new type.
        name: of the new type.
        source: validation scenes; None if there are none.
        training: of the type; says which agents can be of the type, and how far away they may be.
        console: where the result or the obstacle is printed.
        otherwise: trust without scenes to find it on, such as that of the type from which the training started.
    """
    ego_type = next((known for known in alliance.card.training.agent_types if known in alliance.agent_names), None)
    scores: dict[float, float] = {}
    if source is None:
        obstacle = "there are no validation scenes"
    elif ego_type in (None, name):
        obstacle = "it is the ego's own type" if ego_type else "the base's own agent type is not in the alliance"
    else:
        try:
            scores = _scores(alliance, name, ego_type, source, training, console)
            obstacle = "no scene has a partner"
        except DatasetError as error:
            obstacle = str(error)
    if not scores:
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


def _scores(
    alliance: Alliance, name: str, ego_type: str, source: SceneSource, training: ScheduleConfig, console: Console
) -> dict[float, float]:
    """Return the mean of AP@0.5 and AP@0.7 over both roles for every trust; empty without a scene with a partner."""
    roles = [_as_partners(name, ego_type, training), _as_ego(name, ego_type, training)]
    ticks = [i for i in range(len(source)) if any(len(types_of(source.outline(i))) > 1 for types_of in roles)]
    ticks = ticks[:: max(len(ticks) // SCENES, 1)][:SCENES]
    trusting, memo = _TrustingAlliance(alliance.for_inference(), name), MemoSource(source)
    found = {trust: [ApAccumulator() for _ in roles] for trust in LEVELS}
    options = RunOptions(comm_range_m=training.comm_range_m, correct_poses=False, guard="off")
    for tick in track(ticks, "calibrating trust", console=console, transient=True):
        for role, types_of in enumerate(roles):
            if len(types_of(source.outline(tick))) < 2:
                continue
            for trusting.trust, aps in found.items():
                with LocalRuntime(trusting, memo, types_of, options=options) as runtime:
                    aps[role].add_match(next(runtime.run([tick])).match)
    scores = {trust: [score for ap in aps if (score := _mean_ap(ap)) is not None] for trust, aps in found.items()}
    return {trust: sum(parts) / len(parts) for trust, parts in scores.items() if parts}


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
