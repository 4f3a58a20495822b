"""Judge the scenes of one recording together: jumps from one scene to the next, and files that differ from all others."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

import numpy as np

from heal.datasets.doctor.facts import AgentFacts, SceneFacts
from heal.datasets.doctor.finding import Finding
from heal.types import Float64

FASTEST_M_S, MARGIN_M = 70.0, 2.0
FASTEST_TURN_DEG_S, MARGIN_DEG = 180.0, 20.0
OFFSET_NS = 150_000_000  # between two agents of a scene: more than one sweep at 10 Hz, and half of the next
APART_M = 2.0
TURNED_DEG = 45.0
MOVED_M = 0.5  # a shorter way tells no direction
SPARSE, FEWEST = 0.2, 4  # of the median number of points; number of clouds that make a median
SHOWN = 3

# An agent's facts with the id of the scene that they are from.
Moment = tuple[str, AgentFacts]


def check_recording(scenes: Sequence[SceneFacts]) -> Iterator[Finding]:
    """Yield findings about the scenes of one recording, in any order."""
    for moments in _by_agent(scenes).values():
        ordered = sorted(moments, key=lambda moment: moment[1].timestamp_ns)
        yield from _check_clock(ordered)
        yield from _check_poses(ordered)
        yield from _check_headings(ordered)
        yield from _check_clouds(ordered)
        yield from _check_images(ordered)
    for scene in scenes:
        yield from _check_agents(scene)


def _by_agent(scenes: Sequence[SceneFacts]) -> dict[str, list[Moment]]:
    moments: defaultdict[str, list[Moment]] = defaultdict(list)
    for scene in scenes:
        for agent in scene.agents:
            moments[agent.agent_id].append((scene.scene_id, agent))
    return moments


def _check_clock(moments: Sequence[Moment]) -> Iterator[Finding]:
    """Find frames after a gap in an otherwise even clock, and frames at the same time as the one before."""
    times = np.array([agent.timestamp_ns for _, agent in moments], np.int64)
    steps = np.diff(times)
    if not len(steps) or not times.any():
        return
    median = int(np.median(steps))
    even = np.mean(np.abs(steps - median) <= 0.1 * median) >= 0.7
    for (_, before), (scene_id, agent), step in zip(moments, moments[1:], steps.tolist(), strict=False):
        if step == 0:
            found = f"the time of {before.pose_file.name} again"
        elif even and step > 1.5 * median:
            found = f"{step / 1e6:.0f} ms after {before.pose_file.name}"
        else:
            continue
        yield Finding(
            "clock-jump", agent.pose_file, f"a frame {median / 1e6:.0f} ms after the one before", found, scenes=(scene_id,)
        )


def _check_poses(moments: Sequence[Moment]) -> Iterator[Finding]:
    """Find poses that no vehicle reaches from the frame before: alone, or with all that follow."""
    if len({agent.timestamp_ns for _, agent in moments}) < 2:
        return
    broken = [too_far(before[1], after[1]) for before, after in pairwise(moments)]
    for number, text in enumerate(broken):
        before_too = number > 0 and broken[number - 1]
        if not text or before_too:
            continue
        after_too = number + 1 < len(broken) and broken[number + 1]
        returns = after_too and not too_far(moments[number][1], moments[number + 2][1])
        first_alone = number == 0 and len(moments) > 2 and not after_too
        scene_id, agent = moments[number if first_alone else number + 1]
        last_alone = number + 1 == len(broken) and number > 0
        kind = "pose-jump" if returns or first_alone or last_alone else "pose-step"
        files = (agent.pose_file,) if kind == "pose-jump" else ()
        expected = f"at most {FASTEST_M_S:g} m/s and {FASTEST_TURN_DEG_S:g} degrees/s from the frames before and after"
        yield Finding(kind, agent.pose_file, expected, f"agent {agent.agent_id} {text}", scenes=(scene_id,), files=files)


def too_far(before: AgentFacts, after: AgentFacts) -> str:
    """Say how far an agent has moved if no vehicle moves so fast; an empty text if it may have."""
    duration_s = (after.timestamp_ns - before.timestamp_ns) / 1e9
    moved_m = float(np.linalg.norm(after.world_SE3_agent[:3, 3] - before.world_SE3_agent[:3, 3]))
    if moved_m > FASTEST_M_S * duration_s + MARGIN_M:
        return f"moves {moved_m:.1f} m in {duration_s:.2f} s"
    cosine = (np.trace(before.world_SE3_agent[:3, :3].T @ after.world_SE3_agent[:3, :3]) - 1) / 2
    turned_deg = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    if turned_deg > FASTEST_TURN_DEG_S * duration_s + MARGIN_DEG:
        return f"turns by {turned_deg:.0f} degrees in {duration_s:.2f} s"
    return ""


def _check_headings(moments: Sequence[Moment]) -> Iterator[Finding]:
    """Find objects that turn at once or move sideways, where ids follow an object from frame to frame."""
    for (_, before), (scene_id, after) in pairwise(moments):
        _, of_before, of_after = np.intersect1d(before.ids, after.ids, return_indices=True)
        way = after.centres[of_after] - before.centres[of_before]
        moved_m = np.hypot(way[:, 0], way[:, 1])
        duration_s = (after.timestamp_ns - before.timestamp_ns) / 1e9
        if not len(way) or duration_s > 0.5 or np.median(moved_m) > FASTEST_M_S * duration_s:
            continue  # the ids number the labels of each frame anew
        turned = _axis_angle_deg(after.yaws[of_after], before.yaws[of_before]) > TURNED_DEG
        plausible = (moved_m > MOVED_M) & (moved_m < FASTEST_M_S * duration_s + MARGIN_M)
        sideways = plausible & (_axis_angle_deg(np.arctan2(way[:, 1], way[:, 0]), after.yaws[of_after]) > TURNED_DEG)
        wrong = after.ids[of_after][sideways | turned].tolist()
        if wrong:
            more = " and more" if len(wrong) > SHOWN else ""
            found = f"objects {', '.join(map(str, wrong[:SHOWN]))}{more} turn at once or move sideways"
            expected = f"a heading within {TURNED_DEG:g} degrees of the movement and of the frame before"
            yield Finding("label-turned", after.label_file, expected, found, scenes=(scene_id,))


def _axis_angle_deg(one: Float64, other: Float64) -> Float64:
    """Return the angle between two axes in degrees, (N,) in [0, 90]; a reversed axis is the same."""
    angle: Float64 = np.degrees(np.abs((one - other + np.pi / 2) % np.pi - np.pi / 2))
    return angle


def _check_clouds(moments: Sequence[Moment]) -> Iterator[Finding]:
    """Find clouds with far fewer points than the agent's others, and agents without any intensity."""
    clouds = [(scene_id, agent.cloud) for scene_id, agent in moments if agent.cloud is not None]
    if len(clouds) >= FEWEST:
        median = float(np.median([cloud.points for _, cloud in clouds]))
        for scene_id, cloud in clouds:
            if cloud.points < SPARSE * median:
                yield Finding(
                    "sparse-cloud", cloud.path, f"about {median:.0f} points", f"{cloud.points} points", scenes=(scene_id,)
                )
    if clouds and not any(cloud.intensity for _, cloud in clouds):
        found = f"0 in all points of {len(clouds)} clouds"
        yield Finding("no-intensity", clouds[0][1].path.parent, "intensities from 0 to 1", found)


def _check_images(moments: Sequence[Moment]) -> Iterator[Finding]:
    """Find images that differ in size or form from most of the same camera."""
    images = [(scene_id, image) for scene_id, agent in moments for image in agent.images]
    for camera in sorted({image.camera for _, image in images}):
        own = [(scene_id, image) for scene_id, image in images if image.camera == camera]
        size, _ = Counter(image.size_px for _, image in own).most_common(1)[0]
        form, _ = Counter(image.form for _, image in own).most_common(1)[0]
        for scene_id, image in own:
            if image.size_px != size:
                texts = [f"{width} x {height} pixels" for width, height in (size, image.size_px)]
                yield Finding("image-size", image.path, texts[0], texts[1], scenes=(scene_id,), files=(image.path,))
            elif image.form != form:
                yield Finding("image-bits", image.path, form, image.form, scenes=(scene_id,))


def _check_agents(scene: SceneFacts) -> Iterator[Finding]:
    """Compare the agents of one scene: their times, and the places of the objects that both label."""
    for one, other in combinations(scene.agents, 2):
        if one.timestamp_ns and other.timestamp_ns and abs(one.timestamp_ns - other.timestamp_ns) > OFFSET_NS:
            apart_ms = abs(one.timestamp_ns - other.timestamp_ns) / 1e6
            expected = f"agents at most {OFFSET_NS / 1e6:.0f} ms apart"
            found = f"{one.agent_id} and {other.agent_id} are {apart_ms:.0f} ms apart"
            yield Finding("clock-offset", other.pose_file, expected, found, scenes=(scene.scene_id,))
        _, of_one, of_other = np.intersect1d(one.ids, other.ids, return_indices=True)
        apart_m = np.linalg.norm(one.centres[of_one] - other.centres[of_other], axis=1)
        if (apart_m > APART_M).any():
            worst = int(apart_m.argmax())
            found = f"{one.agent_id} and {other.agent_id} place object {one.ids[of_one[worst]]} {apart_m[worst]:.1f} m apart"
            yield Finding(
                "label-conflict", other.label_file, f"the same place within {APART_M:g} m", found, scenes=(scene.scene_id,)
            )
