"""The decoders of the other data sets: metadata in dialects of OPV2V, V2X-Sim's tables, TUMTraf's labels, and lists in a cache."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import yaml

from heal.datasets.cooperscene.metadata import COOPERSCENE
from heal.datasets.dataset import Dataset, DatasetError
from heal.datasets.opv2v.dialect import Dialect
from heal.datasets.opv2v.metadata import read_metadata
from heal.datasets.opv2v.source import Opv2vSource
from heal.datasets.tumtraf.source import TumTrafSource
from heal.datasets.v2v4real.metadata import V2V4REAL
from heal.datasets.v2x_sim.source import V2xSimSource
from heal.datasets.v2xreal.metadata import V2XREAL
from heal.types import SensorChoice
from tests.datasets.cooperscene import cooperscene_tree
from tests.datasets.opv2v import opv2v_tree
from tests.datasets.town_truth import town_scenes
from tests.datasets.tumtraf import tumtraf_tree
from tests.datasets.v2v4real import v2v4real_tree
from tests.datasets.v2x_sim.v2x_sim_tree import VERSION, Tree
from tests.datasets.v2xreal import v2xreal_tree
from tests.long.data_decoders import mutated_entry, sealed_entry
from tests.long.decoder import Decoder, of_file, one_of
from tests.long.mutations import mutated_text

AGENT = "1"
ONLY_LISTS = SensorChoice(lidar=False, cameras=False)


def _metadata(dialect: Dialect, folder: Path) -> Decoder:
    def read(path: Path) -> None:
        found = read_metadata(path.with_suffix(""), dialect.parse)
        assert np.isfinite(found.world_SE3_lidar).all() and np.isfinite(found.objects.world_corners).all()

    values = {
        V2V4REAL: lambda: v2v4real_tree.metadata(v2v4real_tree.v2v4real_frames()[AGENT][0], set()),
        V2XREAL: lambda: v2xreal_tree.metadata(v2xreal_tree.v2xreal_frames()[AGENT][0], AGENT),
        COOPERSCENE: lambda: cooperscene_tree.metadata(cooperscene_tree.cooperscene_frames()[AGENT][0], False),
    }[dialect]()
    own = folder / AGENT  # the folder's name is the agent
    own.mkdir()
    return of_file(own, ".yaml", read, DatasetError, [yaml.dump(values).encode()], mutated_text)


def _read_all(source: Dataset) -> str:
    """Read the outlines, the labels and the poses of all agents of every scene: no cloud, and no image."""
    for index in range(len(source)):
        outline = source.outline(index)
        assert np.isfinite(source.scene_objects(index).world_corners).all()
        for agent_id in outline.agent_ids:
            frame = source.agent_frame(index, agent_id, ONLY_LISTS)
            assert np.isfinite(frame.world_SE3_agent).all() and np.isfinite(frame.objects.world_corners).all()
    return "accepted"


def _v2x_sim(folder: Path) -> Decoder:
    tree = Tree(folder)
    tree.add_recording("scene_5", 5, town_scenes())
    tables = sorted((tree.write() / VERSION).glob("*.json"))
    return one_of(tables, lambda: _read_all(V2xSimSource(folder, "test")), DatasetError, mutated_text)


def _tumtraf(folder: Path) -> Decoder:
    [first, _] = tumtraf_tree.write_split(folder / "train", town_scenes())
    label = tumtraf_tree.label_path(folder / "train", first)
    return one_of([label], lambda: _read_all(TumTrafSource(folder, "train")), DatasetError, mutated_text)


def _lists(folder: Path) -> Decoder:
    """The lists of a split in OPV2V's layout and V2X-Sim's index in a cache, with right checksums.

    A wrong one is made anew; if its form is right, it may name a file that is not there.
    """
    root, cache, tree = opv2v_tree.write_tree(folder / "data"), folder / "cache", Tree(folder / "tables")
    tree.add_recording("scene_5", 5, town_scenes())
    tree.write()

    def read() -> str:
        before = {path: path.stat().st_ino for path in cache.rglob("*.*")}
        _read_all(Opv2vSource(root, "test", cache=cache))
        _read_all(V2xSimSource(tree.root, "test", cache=cache))
        return "accepted" if {path: path.stat().st_ino for path in cache.rglob("*.*")} == before else "written again"

    read()
    return one_of(sorted(cache.rglob("*.*")), read, DatasetError, mutated_entry, lambda _, data: sealed_entry(data))


ROAD_DECODERS = {
    "v2v4real": partial(_metadata, V2V4REAL),
    "v2x-real": partial(_metadata, V2XREAL),
    "cooperscene": partial(_metadata, COOPERSCENE),
    "v2x-sim": _v2x_sim,
    "tumtraf": _tumtraf,
    "cache-lists": _lists,
}
