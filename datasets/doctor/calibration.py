"""Judge the calibration of a recording by its boxes: those that hold no point of a cloud, and those beside the images.

Boxes that an agent labels hold points of its own cloud, and most of them hold points of a neighbour's. An agent whose pose is wrong
finds other agents' boxes empty; where its labels are in world coordinates, its own too. Some boxes are hidden, so a judgement needs
many boxes and a large share of empty ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from heal.datasets.doctor.facts import AgentFacts, Hits, SceneFacts
from heal.datasets.doctor.finding import Finding

# Where a calibration is right, an agent's cloud fills all of its own boxes, and 4 to 8 of 10 boxes of another agent: the others are
# hidden, or lie apart by the error of real poses. Where it is wrong, walls and hedges fill 1 of 10.
OWN_SHARE, OWN_BOXES = 0.45, 8
CROSS_SHARE, CROSS_BOXES = 0.15, 30
EXCHANGED_SHARE, IMAGE_SHARE = 0.45, 0.25

AllHits = Mapping[tuple[str, str, str], Hits]


def check_calibration(scenes: Sequence[SceneFacts]) -> Iterator[Finding]:
    """Yield findings about the calibrations of one recording."""
    hits: defaultdict[tuple[str, str, str], Hits] = defaultdict(Hits)
    for scene in scenes:
        for key, counted in scene.hits.items():
            hits[key] += counted
    agents = {agent.agent_id: agent for scene in reversed(scenes) for agent in scene.agents}
    wrong = [agent_id for agent_id in agents if _is_empty(hits[agent_id, agent_id, agent_id], OWN_BOXES, OWN_SHARE)]
    exchanged = [pair for pair in combinations(agents, 2) if _are_exchanged(hits, *pair, wrong)]
    for one, other in exchanged:
        found = f"boxes are empty in the clouds of {one} and {other}, and are not once the clouds are exchanged"
        yield _finding("sides-exchanged", agents[one], f"the clouds of {one} and {other} at their poses", found, scenes)
    for agent_id in wrong:
        if not any(agent_id in pair for pair in exchanged):
            yield _finding("calibration", agents[agent_id], *_texts(agent_id, agent_id, hits), scenes)
    right = [agent_id for agent_id in agents if agent_id not in wrong]
    yield from _check_between(right, agents, hits, scenes)
    for agent in agents.values():
        yield from _check_views(agent, scenes)


def _check_between(
    right: list[str], agents: Mapping[str, AgentFacts], hits: AllHits, scenes: Sequence[SceneFacts]
) -> Iterator[Finding]:
    """Find the pairs of agents that find each other's boxes empty; of several agents the one that most pairs have is named."""
    pairs = [
        (one, other)
        for one, other in combinations(right, 2)
        if _is_empty(hits[one, one, other] + hits[other, other, one], CROSS_BOXES, CROSS_SHARE)
    ]
    while pairs:
        # Of equally many the later one, which is not the ego.
        guilty = max(reversed(right), key=lambda agent_id: sum(agent_id in pair for pair in pairs))
        other = next(one if two == guilty else two for one, two in pairs if guilty in (one, two))
        expected, found = _texts(guilty, other, hits)
        yield _finding("calibration", agents[guilty], expected, f"{found}; the pose of {guilty} or of {other} is wrong", scenes)
        pairs = [pair for pair in pairs if guilty not in pair]


def _check_views(agent: AgentFacts, scenes: Sequence[SceneFacts]) -> Iterator[Finding]:
    """Find an agent whose boxes lie beside its images."""
    moments = [(scene.scene_id, each) for scene in scenes for each in scene.agents if each.agent_id == agent.agent_id]
    seen = sum((each.seen for _, each in moments), Hits())
    view_share = max(each.view_share for _, each in moments)
    if seen.boxes >= OWN_BOXES and seen.share < IMAGE_SHARE * view_share:
        files = tuple(image.path for _, each in moments for image in each.images)
        ids = tuple(scene_id for scene_id, each in moments if each.images)
        expected = f"boxes near agent {agent.agent_id} in its images, which cover {view_share:.0%} of all directions"
        found = f"{seen.hit} of {seen.boxes} boxes in an image"
        yield Finding("camera-beside", files[0] if files else agent.pose_file, expected, found, scenes=ids, files=files)


def _is_empty(hits: Hits, boxes: int, share: float) -> bool:
    return hits.boxes >= boxes and hits.share < share


def _are_exchanged(hits: AllHits, one: str, other: str, wrong: Sequence[str]) -> bool:
    """Whether two agents find their own boxes empty, and each finds boxes where the other's pose puts its cloud."""
    swapped = hits.get((one, other, one), Hits()), hits.get((other, one, other), Hits())
    return {one, other} <= set(wrong) and all(each.boxes >= OWN_BOXES and each.share > EXCHANGED_SHARE for each in swapped)


def _texts(of_cloud: str, of_labels: str, hits: AllHits) -> tuple[str, str]:
    counted = hits[of_cloud, of_cloud, of_labels]
    if of_cloud != of_labels:
        counted += hits[of_labels, of_labels, of_cloud]
    sides = (
        f"{of_labels} in the cloud of {of_cloud}" if of_cloud == of_labels else f"{of_labels} and {of_cloud} in the other's cloud"
    )
    return f"points in most boxes of {sides}", f"points in {counted.hit} of {counted.boxes} near boxes"


def _finding(kind: str, agent: AgentFacts, expected: str, found: str, scenes: Sequence[SceneFacts]) -> Finding:
    """Return a finding about all scenes with an agent."""
    ids = tuple(scene.scene_id for scene in scenes if any(each.agent_id == agent.agent_id for each in scene.agents))
    return Finding(kind, agent.pose_file, expected, found, scenes=ids)
