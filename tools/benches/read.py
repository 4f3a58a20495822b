"""Reading with one thread, with and without a cache: clouds on disk to pillars, and whole frames with their images."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from heal.datasets.cache.source import CachedSource
from heal.datasets.dataset import Dataset
from heal.datasets.open import open_dataset
from heal.encoders.lidar import lidar_clouds
from heal.encoders.point_pillars import PointPillarsConfig, pillar_grid
from heal.encoders.voxelize import VoxelGrid, voxelize
from heal.tools.benches.frame import write_town
from heal.tools.benches.measure import BenchRow, timed
from heal.tools.benches.plain import readers as plain_readers
from heal.tools.benches.plain import voxels as plain_voxels
from heal.tools.benches.setup import WIDE, BenchSetup, bench_town, torch_threads
from heal.tools.converting.recordings import every_sensor
from heal.tools.shared.setting_files import read_agent_type
from heal.types import AgentFrame, SceneSource, SensorChoice


def bench_read(setup: BenchSetup) -> list[BenchRow]:
    """Run `heal bench read`: two agents of DAIR-V2X-C if its folder is given, then two of `scenes` or of the town, as files."""
    with torch_threads(1), tempfile.TemporaryDirectory() as folder:
        return [*_dair(setup, Path(folder)), *_opv2v(setup, Path(folder))]


def _dair(setup: BenchSetup, folder: Path) -> list[BenchRow]:
    """Time the first pair of DAIR-V2X-C's validation list; without a DAIR-V2X-C folder return no rows."""
    root = setup.data
    if root is None:
        return []

    def plain() -> object:
        return plain_voxels.voxelize(plain_readers.read_dair_clouds(root, "val", 0), _pillars())

    open_source = functools.partial(open_dataset, root, "val")
    return [
        *_pair(setup, "dair", open_source, folder / "dair-cache", plain),
        *_whole_frames(setup, "dair", open_source, folder / "dair-cache"),
    ]


def _opv2v(setup: BenchSetup, folder: Path) -> list[BenchRow]:
    """Time the first test scene of a folder in OPV2V's layout; without one, write a town with two agents and time that."""
    root, split = setup.scenes, "test"
    if root is None:
        town = bench_town(2)
        root, split = folder / "town", town.split
        write_town(town, root, frozenset({"lidar", "camera", "depth"}))
    open_source = functools.partial(open_dataset, root, split)
    return [
        *_pair(setup, "opv2v", open_source, folder / "opv2v-cache", None),
        *_whole_frames(setup, "opv2v", open_source, folder / "opv2v-cache"),
    ]


def _pair(
    setup: BenchSetup, name: str, open_source: Callable[..., SceneSource], cache: Path, plain: Callable[[], object] | None
) -> list[BenchRow]:
    """Time converting the clouds of two agents in the first scene to pillars, from the files and from a filled cache.

    Args:
        setup: options of the bench.
        name: name of the rows.
        open_source: opens the data set; takes the cache folder as `cache`.
        cache: folder of the cache.
        plain: the plain form without a cache, if there is one.
    """
    files, cached_source = open_source(), open_source(cache=cache)
    calls = [lambda: _to_pillars(files), lambda: _to_pillars(cached_source), *([plain] if plain and setup.measures_plain else [])]
    direct, cached, *others = timed(*calls, repeats=3 * setup.repeats)
    note = f"{direct.seconds / cached.seconds:.1f} times as fast as from the files"
    return [
        BenchRow.of(f"read/{name}", direct, "two clouds, disk to pillars", *others),
        BenchRow.of(f"read/{name}-cached", cached, note),
    ]


def _whole_frames(setup: BenchSetup, name: str, open_source: Callable[..., Dataset], cache: Path) -> list[BenchRow]:
    """Time a frame of an agent in the first scene with every sensor of which there are files: from the files, and from caches.

    Args:
        setup: options of the bench.
        name: name of the rows.
        open_source: opens the data set; takes the cache folder as `cache`.
        cache: folder of the cache with packed images; one with raw images is made beside it.
    """
    files, cached, raw = open_source(), open_source(cache=cache), open_source(cache=Path(f"{cache}-raw"))
    assert isinstance(raw, CachedSource), "a cache was asked for"
    raw.packed = False
    ids, choice = files.outline(0).agent_ids[:2], every_sensor(files)
    readers = [functools.partial(_read_frames, source, ids, choice) for source in (files, cached, raw)]
    direct, *others = (replace(timing, seconds=timing.seconds / len(ids)) for timing in timed(*readers, repeats=3 * setup.repeats))
    sensors = ", ".join(sensor for sensor, chosen in (("images", choice.cameras), ("depth", choice.depth)) if chosen)
    rows = [BenchRow.of(f"read/{name}-frame", direct, f"cloud, {sensors}: {1 / direct.seconds:.3g} frames/s")]
    for kind, timing in zip(("cached", "raw"), others, strict=True):
        note = f"{1 / timing.seconds:.3g} frames/s, {direct.seconds / timing.seconds:.1f} times as many as from the files"
        rows.append(BenchRow.of(f"read/{name}-frame-{kind}", timing, note))
    return rows


def _read_frames(source: SceneSource, ids: Sequence[str], choice: SensorChoice) -> list[AgentFrame]:
    """Read the frames of some agents in the first scene."""
    return [source.agent_frame(0, agent_id, choice) for agent_id in ids]


def _to_pillars(source: SceneSource) -> object:
    """Read the clouds of the first two agents in the first scene and convert them to pillars."""
    ids = source.outline(0).agent_ids[:2]
    return voxelize(lidar_clouds([source.agent_frame(0, agent_id) for agent_id in ids]), _pillars())


@functools.cache
def _pillars() -> VoxelGrid:
    """Return the pillar grid of the paper's m1."""
    encoder = read_agent_type("m1").encoder
    assert isinstance(encoder, PointPillarsConfig), "m1 has a PointPillars encoder"
    return pillar_grid(encoder, WIDE, training=False)
