"""Classes of labels: the names that data sets have for types, and the objects of the wanted classes that readers return."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heal.datasets.cooperscene.metadata import COOPERSCENE
from heal.datasets.labels import (
    NAMES_OF_TYPES,
    NO_CLASS,
    class_of_name,
    dair_left_out,
    dair_objects,
    dair_world_objects,
    kept_labels,
    posed_objects,
    read_opv2v_objects,
)
from heal.datasets.open import open_dataset
from heal.datasets.opv2v.dialect import OPV2V
from heal.datasets.opv2v.metadata import Parse
from heal.datasets.v2v4real.metadata import V2V4REAL
from heal.datasets.v2xreal.metadata import V2XREAL
from heal.detection.classes import EVERY_TYPE, OBJECT_TYPES, VEHICLES, Classes, ObjectClass, require_classes
from heal.errors import UserError
from heal.types import ObjectLabels, load_scene
from tests.datasets.opv2v.opv2v_tree import metadata, vehicle, write_frame

THREE: Classes = (ObjectClass.of("pedestrian"), ObjectClass.of("vehicle"), ObjectClass.of("cyclist"))
SMALL_AND_LARGE: Classes = (ObjectClass.of("small", ["car"]), ObjectClass.of("large", ["truck", "bus"]))


def test_every_name_means_one_type() -> None:
    assert tuple(NAMES_OF_TYPES) == OBJECT_TYPES
    names = [name for group in NAMES_OF_TYPES.values() for name in group.split()]
    assert len(names) == len(set(names))
    for number, kind in enumerate(OBJECT_TYPES):
        assert all(class_of_name(name.upper(), EVERY_TYPE) == number for name in NAMES_OF_TYPES[kind].split())
        assert class_of_name(kind) == (0 if kind in ("car", "truck", "bus") else None)
    wanted = {"Police_Car": 0, "ConcreteTruck": 1, "School Bus": 1, "Pedestrian": None, "barrier": None}
    assert {name: class_of_name(name, SMALL_AND_LARGE) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("classes", "cause"),
    [
        ((), "at least one"),
        ((ObjectClass.of("car"), ObjectClass.of("vehicle")), "each type once, got car twice"),
        ((ObjectClass.of("a", ["bus"]), ObjectClass.of("a", ["car"])), "each name once, got a twice"),
    ],
)
def test_classes_that_contradict_each_other_are_refused(classes: Classes, cause: str) -> None:
    with pytest.raises(UserError, match=cause):
        require_classes(classes)


def test_a_class_needs_known_types() -> None:
    with pytest.raises(UserError, match="got none; only vehicle, car"):
        ObjectClass.of("animal")
    with pytest.raises(UserError, match="got horse"):
        ObjectClass.of("animal", ["horse"])


def test_labels_carry_the_numbers_of_their_classes() -> None:
    types = ["Car", "Pedestrian", "tree", "bicycle", "BUS", "walker"]
    sizes = np.ones((6, 3))
    sizes[5] = 0.0
    numbers, left_out = kept_labels(types, sizes, THREE)
    assert numbers.tolist() == [1, 0, NO_CLASS, 2, 1, NO_CLASS] and left_out == {"tree": 1, "without a size": 1}
    objects = posed_objects(np.arange(6), types, np.tile(np.eye(4), (6, 1, 1)), sizes, THREE)
    assert (objects.ids.tolist(), objects.classes.tolist()) == ([0, 1, 3, 4], [1, 0, 2, 1])
    assert objects.select(objects.ids > 0).classes.tolist() == [0, 2, 1]
    later = posed_objects(np.arange(3, 5), types[3:5], np.tile(np.eye(4), (2, 1, 1)), sizes[3:5], THREE)
    assert ObjectLabels.union([later, objects]).classes.tolist() == [2, 1, 1, 0], "ids 3, 4, 0, 1"
    assert ObjectLabels(objects.ids, objects.world_corners).classes.tolist() == [0, 0, 0, 0]
    with pytest.raises(ValueError, match="classes"):
        ObjectLabels(objects.ids, objects.world_corners, np.zeros(3, np.int64))


def test_opv2v_objects_without_a_type_are_cars() -> None:
    kinds = ["Car", "Pedestrian", None, "Cyclist", "wheelbarrow"]
    entries = {n: {**vehicle(8.0 * n, 0.0), **({"obj_type": kind} if kind else {})} for n, kind in enumerate(kinds)}
    entries[9] = {**vehicle(90.0, 0.0), "bp_id": "walker.pedestrian.0001"}
    objects, left_out = read_opv2v_objects(entries, THREE)
    assert dict(zip(objects.ids.tolist(), objects.classes.tolist(), strict=True)) == {0: 1, 1: 0, 2: 1, 3: 2, 9: 0}
    assert left_out == {"wheelbarrow": 1}
    alone, _ = read_opv2v_objects(entries, (ObjectClass.of("pedestrian"),))
    assert alone.ids.tolist() == [1, 9]


def test_both_kinds_of_dair_labels_have_classes() -> None:
    here = {"3d_location": {"x": 5, "y": 1, "z": 0}, "3d_dimensions": {"h": 2, "w": 1, "l": 3}, "rotation": 0.0}
    entries = [{"type": kind, **here} for kind in ("Car", "Pedestrian", "Trafficcone", "Motorcyclist")]
    objects = dair_objects(entries, np.eye(4), THREE)
    assert (objects.ids.tolist(), objects.classes.tolist()) == ([0, 1, 3], [1, 0, 2])
    corners = objects.world_corners[0].tolist()
    world = [{"type": kind, "world_8_points": corners} for kind in ("Van", "Trafficcone", "Pedestrian")]
    joint = dair_world_objects([*world, {"world_8_points": corners}], THREE)
    assert (joint.ids.tolist(), joint.classes.tolist()) == ([0, 2, 3], [1, 0, 1])
    assert dair_left_out(entries, THREE) == {"Trafficcone": 1} and dair_left_out(world, THREE) == {"Trafficcone": 1}
    assert dair_left_out(world) == {"Trafficcone": 1, "Pedestrian": 1}


def test_the_summary_counts_only_what_the_classes_leave_out(tmp_path: Path) -> None:
    entries = {n: {**vehicle(8.0 * n, 0.0), "obj_type": kind} for n, kind in enumerate(("Car", "Pedestrian", "TrashCan"))}
    write_frame(tmp_path / "test" / "drive_a" / "101", "000020", metadata(vehicles=entries))
    assert "left out: 1 Pedestrian, 1 TrashCan" in str(open_dataset(tmp_path, "test").summary)
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        source = open_dataset(tmp_path, "test", cache=cache, classes=THREE)
        assert "left out: 1 TrashCan" in str(source.summary) and source.classes == THREE
        scene = load_scene(source, 0)
        assert scene.objects.classes.tolist() == scene.ego.objects.classes.tolist() == [1, 0]
        assert open_dataset(tmp_path, "test", cache=cache).scene_objects(0).classes.tolist() == [0]
    people = open_dataset(tmp_path, "test", classes=(ObjectClass.of("pedestrian"),))
    assert "left out: 1 Car, 1 TrashCan" in str(people.summary)


@pytest.mark.parametrize("parse", [dialect.parse for dialect in (OPV2V, V2XREAL, V2V4REAL, COOPERSCENE)])
def test_every_dialect_reads_the_wanted_classes(parse: Parse) -> None:
    kinds = ("Car", "Truck", "Pedestrian", "TrashCan")
    values = metadata(vehicles={n: {**vehicle(8.0 * n, 0.0), "obj_type": kind} for n, kind in enumerate(kinds)})
    three = (ObjectClass.of("car"), ObjectClass.of("truck", ["truck", "bus"]), ObjectClass.of("pedestrian"))
    found = parse(values, "1", three)
    assert found.objects.classes.tolist() == [0, 1, 2] and found.left_out == {"TrashCan": 1}
    assert parse(values, "1", VEHICLES).objects.classes.tolist() == [0, 0]
