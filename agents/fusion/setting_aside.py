"""The maps that a tick goes on without when its fusion has failed: the culprits, or all but the ego's if none can be told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from heal.agents.fusion.map_memory import KnownMap
from heal.agents.records import FusionRequest, Rejection, Sender

FUSION_FAILED, LEFT_OUT = "fusion failed", "left out"
"""Reasons of rejections: reading or fusing the map raised an error; the map was fine, but the fusion failed with another map."""

MOST_TRIED = 4
"""Senders that are tried one by one after a failure. Each trial is a fusion, and no sender may make a tick endless."""

_MAX_DETAIL = 200


def set_aside(
    request: FusionRequest,
    new: Collection[Sender],
    maps: Sequence[KnownMap],
    detect: Callable[[Sequence[KnownMap]], object],
    problem: str,
) -> tuple[list[KnownMap], list[Rejection]]:
    """Choose which maps to leave out after a failed fusion.

    A map that cannot be fused alone, or with the ego's map alone, is a culprit. Without a culprit all maps but the ego's are left
    out, and at last the ego's too.

    Args:
        request: of the tick.
        new: the messages that have come in the tick.
        maps: that could not be fused together, at least one; the ego's first if it is there.
        detect: fuses some of the maps.
        problem: what was raised.

    Returns:
        The maps to leave out, at least one, and a rejection for each of them that is new, or that caused the failure.
    """
    culprits = _culprits(request, maps, detect)
    if culprits:
        return list(culprits), [_failed(known, text) for known, text in culprits.items()]
    gone = [known for known in maps if known.agent_id != request.ego_id] or list(maps)
    newest = max(gone, key=lambda known: (known.tick, known.timestamp_ns, known.agent_id))
    detail = f"the fusion failed with the map of {newest.agent_id!r}"
    others = [known for known in gone if known is not newest and known.sender in new]
    return gone, [_failed(newest, problem), *(Rejection(*known.sender, LEFT_OUT, detail) for known in others)]


def described(error: Exception) -> str:
    """Return the name of an error and the first line of its text, for the detail of a rejection."""
    return f"{type(error).__name__}: {error}".partition("\n")[0][:_MAX_DETAIL]


def _culprits(
    request: FusionRequest, maps: Sequence[KnownMap], detect: Callable[[Sequence[KnownMap]], object]
) -> dict[KnownMap, str]:
    """Return the maps that cannot be fused, each with its error; none where one sender or too many leave nothing to try."""
    own = [known for known in maps if known.agent_id == request.ego_id]
    others = [known for known in maps if known.agent_id != request.ego_id]
    if not 2 <= len(others) <= MOST_TRIED:
        return {}
    if own and (text := _error_of(detect, own)):
        return {own[0]: text}
    errors = {known: _error_of(detect, [*own, known]) for known in others}
    return {known: text for known, text in errors.items() if text}


def _error_of(detect: Callable[[Sequence[KnownMap]], object], maps: Sequence[KnownMap]) -> str:
    """Return what fusing some maps raises; "" if it works."""
    try:
        detect(maps)
    except Exception as error:  # noqa: BLE001 - whatever it is, the map that causes it is left out
        return described(error)
    return ""


def _failed(known: KnownMap, problem: str) -> Rejection:
    return Rejection(*known.sender, FUSION_FAILED, problem)
