"""The guard at a fusion node: leaves out senders that make the ego lose its confident boxes, remembers them, puts boxes back.

What the guard guarantees, and what not, is described in docs/guard.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from heal.agents.fusion.map_memory import KnownMap
from heal.agents.fusion.suspicion import Suspicion
from heal.agents.options import RunOptions
from heal.agents.records import GuardReport
from heal.base_model import BaseConfig
from heal.detection.detections import Detections
from heal.detection.guard import GuardConfig, confident_boxes, keeps_enough, kept_boxes, put_back

Fuse = Callable[[Sequence[KnownMap]], Detections]
"""Returns the boxes that maps give together, the ego's map first, as if no other map had come."""

_MOST_TRIED = 8  # senders that are tried one by one; the work of a tick would grow with the square of their number


@dataclass(frozen=True)
class Trial:
    """Maps of a tick, the ego's first, and the boxes that they give together."""

    maps: tuple[KnownMap, ...]
    detections: Detections


@dataclass(frozen=True)
class Verdict:
    """What a guard makes of a tick: the boxes, the maps that they come from, and the report."""

    detections: Detections
    maps: tuple[KnownMap, ...]
    report: GuardReport


class Guarding(Protocol):
    """What a fusion node asks in every tick."""

    def judge(self, alone: Detections, fused: Trial, fuse: Fuse) -> Verdict:
        """Compare the boxes of the ego alone with those of all maps.

        Args:
            alone: the boxes that the ego's map gives alone.
            fused: all maps of the tick, the ego's first, and their boxes.
            fuse: fuses fewer of the maps.
        """
        ...


class Unguarded:
    """Counts the confident boxes that are lost, and changes nothing."""

    def __init__(self, settings: GuardConfig, nms_iou: float) -> None:
        """Count by the same settings and the same overlap as a guard."""
        self._settings, self._nms_iou = settings, nms_iou

    def judge(self, alone: Detections, fused: Trial, fuse: Fuse) -> Verdict:
        """Return the boxes of all maps."""
        kept = kept_boxes(confident_boxes(alone, self._settings), fused.detections, self._nms_iou)
        return Verdict(fused.detections, fused.maps, GuardReport(len(kept), int((~kept).sum())))


class Guard:
    """Keeps the ego's confident boxes, and suspects the senders that it has left out."""

    def __init__(self, settings: GuardConfig, nms_iou: float, suspicion: Suspicion) -> None:
        """Guard by settings; two boxes that overlap by more than `nms_iou` are one vehicle."""
        self._settings, self._nms_iou, self._suspicion = settings, nms_iou, suspicion

    def judge(self, alone: Detections, fused: Trial, fuse: Fuse) -> Verdict:
        """Leave out senders until the others keep enough confident boxes, then put back those that are still lost."""
        search = _Search(confident_boxes(alone, self._settings), alone, fuse, self._settings, self._nms_iou)
        all_maps = search.judged(fused)
        chosen = all_maps if search.is_enough(all_maps) else search.without_culprits(fused.maps)
        maps = chosen.trial.maps
        blamed = tuple(known.agent_id for known in fused.maps if known not in maps)
        for agent_id in blamed:
            self._suspicion.add(agent_id)
        lost = search.confident.select(~chosen.kept)
        report = GuardReport(len(search.confident), int((~all_maps.kept).sum()), len(lost), blamed)
        return Verdict(put_back(lost, chosen.trial.detections), maps, report)


@dataclass(frozen=True)
class _Judged:
    """A trial, and which of the ego's confident boxes (N,) it keeps, bool."""

    trial: Trial
    kept: Tensor


class _Search:
    """Searches for maps that keep enough of the ego's confident boxes."""

    def __init__(self, confident: Detections, alone: Detections, fuse: Fuse, settings: GuardConfig, nms_iou: float) -> None:
        self.confident, self._alone, self._fuse, self._settings, self._nms_iou = confident, alone, fuse, settings, nms_iou
        self._tried: dict[tuple[str, ...], _Judged] = {}  # by the ids of the agents

    def judged(self, trial: Trial) -> _Judged:
        """Compare a trial with the confident boxes, and remember what came of it."""
        judged = _Judged(trial, kept_boxes(self.confident, trial.detections, self._nms_iou))
        self._tried[tuple(known.agent_id for known in trial.maps)] = judged
        return judged

    def is_enough(self, judged: _Judged) -> bool:
        """Return whether a trial keeps enough confident boxes."""
        return keeps_enough(judged.kept, self._settings)

    def without_culprits(self, maps: Sequence[KnownMap]) -> _Judged:
        """Return maps that keep enough boxes: all but one if one sender is the cause, else those that do no harm together.

        Args:
            maps: the ego's first; together they do not keep enough boxes.
        """
        ego, *senders = maps
        if len(senders) <= _MOST_TRIED:
            trials = [self._try(ego, [other for other in senders if other is not sender]) for sender in senders]
            enough = [trial for trial in trials if self.is_enough(trial)]
            if enough:
                return max(enough, key=self._count)
        return self._admit(ego, senders)

    def _admit(self, ego: KnownMap, senders: Sequence[KnownMap]) -> _Judged:
        """Return the map of the ego with those of all senders that do no harm alone; if they harm together, add one after another.

        The best partner of the ego is added first, and each only if enough boxes are kept.
        """
        pairs = [(sender, pair) for sender in senders if self.is_enough(pair := self._try(ego, [sender]))]
        harmless = [sender for sender, _ in pairs]
        together = self._try(ego, harmless)
        if self.is_enough(together):
            return together
        chosen, added = self._try(ego, []), list[KnownMap]()
        for sender, _ in sorted(pairs, key=lambda one: self._count(one[1]), reverse=True)[:_MOST_TRIED]:
            joined = self._try(ego, [known for known in harmless if known is sender or known in added])
            if self.is_enough(joined):
                chosen, added = joined, [*added, sender]
        return chosen

    def _try(self, ego: KnownMap, senders: Sequence[KnownMap]) -> _Judged:
        """Fuse the maps of the ego and of senders, in the order of the tick, and judge them; each choice is fused once."""
        maps = (ego, *senders)
        tried = self._tried.get(tuple(known.agent_id for known in maps))
        return tried or self.judged(Trial(maps, self._fuse(maps) if senders else self._alone))

    def _count(self, judged: _Judged) -> int:
        return int(judged.kept.sum())


def guard_of(options: RunOptions, base: BaseConfig, suspicion: Suspicion) -> Guarding:
    """Return the guard of a run: by the base's settings, or as `RunOptions.guard` says."""
    settings, nms_iou = base.guard or GuardConfig(), base.decode.nms_iou
    if options.guard == "on" or (options.guard == "auto" and base.guard is not None):
        return Guard(settings, nms_iou, suspicion)
    return Unguarded(settings, nms_iou)
