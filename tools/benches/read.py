"""Reading with one thread: files on disk to pillars, with and without a cache of decoded clouds."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

from heal.datasets.open import open_dataset
from heal.encoders.lidar import lidar_clouds
from heal.encoders.point_pillars import PointPillarsConfig, pillar_grid
from heal.encoders.voxelize import VoxelGrid, voxelize
from heal.tools.benches.frame import write_town
from heal.tools.benches.measure import BenchRow, timed
from heal.tools.benches.plain import readers as plain_readers
from heal.tools.benches.plain import voxels as plain_voxels
from heal.tools.benches.setup import WIDE, BenchSetup, bench_town, one_thread
from heal.tools.shared.setting_files import read_agent_type
from heal.types import SceneSource


def bench_read(setup: BenchSetup) -> list[BenchRow]:
    """Run `heal bench read`: two clouds of DAIR-V2X-C if its folder is given, then two clouds of the town in OPV2V's format."""
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        return [*_dair(setup, Path(folder)), *_opv2v(setup, Path(folder))]


def _dair(setup: BenchSetup, folder: Path) -> list[BenchRow]:
    """Time the first pair of DAIR-V2X-C's validation list; without a DAIR-V2X-C folder return no rows."""
    root = setup.data
    if root is None:
        return []

    def plain() -> object:
        return plain_voxels.voxelize(plain_readers.read_dair_clouds(root, "val", 0), _pillars())

    return _pair(setup, "dair", functools.partial(open_dataset, root, "val"), folder / "dair-cache", plain)


def _opv2v(setup: BenchSetup, folder: Path) -> list[BenchRow]:
    """Write a town with two agents in OPV2V's layout, then time reading it."""
    town = bench_town(2)
    write_town(town, folder / "town", frozenset({"lidar"}))
    return _pair(setup, "opv2v", functools.partial(open_dataset, folder / "town", town.split), folder / "town-cache", None)


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
