"""Assignments of agent types: HEAL's files, written files, and a source whose egos have certain types."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heal.datasets.assignment import Assignment, EgoSource, read_assignment, write_assignment
from heal.datasets.dataset import DatasetError
from heal.datasets.opv2v.index import agent_order
from heal.datasets.opv2v.source import Opv2vSource
from heal.types import load_scene
from tests.datasets.opv2v.opv2v_tree import write_tree
from tests.real_data import real_data

AGENTS = {"b": ("1045", "641", "650", "659", "7", "-1"), "a": ("641", "650")}
TYPES = ("m1", "m2", "m3", "m4")


def test_in_order_goes_round() -> None:
    made = Assignment.in_order(AGENTS, TYPES)
    assert list(made.types) == ["a", "b"]
    assert dict(made.types["b"]) == {"1045": "m1", "641": "m2", "650": "m3", "659": "m4", "7": "m1", "-1": "m2"}


def test_at_random_depends_on_seed_and_scenario_alone() -> None:
    many = {f"s{i}": tuple(str(n) for n in range(5)) for i in range(100)}
    made = Assignment.at_random(many, TYPES, 3)
    assert made.types["s7"] == Assignment.at_random({"s7": many["s7"]}, TYPES, 3).types["s7"]
    assert made.types != Assignment.at_random(many, TYPES, 4).types
    drawn = [kind for agents in made.types.values() for kind in agents.values()]
    assert set(drawn) == set(TYPES) and min(drawn.count(kind) for kind in TYPES) > 90


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = Assignment.in_order(AGENTS, TYPES)
    write_assignment(tmp_path / "new" / "types.json", made)
    assert read_assignment(tmp_path / "new" / "types.json").types == made.types
    assert list(read_assignment(tmp_path / "new" / "types.json").types["b"]) == list(made.types["b"])


def test_types_can_be_mapped_onto_others() -> None:
    made = Assignment({"a": {"1": "m1", "2": "m2"}}).mapped({"m2": "m1"})
    assert made.types == {"a": {"1": "m1", "2": "m1"}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "expected {scenario: {agent: type}}, got list"),
        ('{"a": ["m1"]}', "a: expected {agent: type}, got list"),
        ('{"a": {"641": 1}}', "a/641: expected the name of an agent type, got 1"),
        ('{"a": {"641": ""}}', "a/641: expected the name"),
        ("{", "not valid JSON"),
    ],
)
def test_another_content_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "types.json"
    path.write_text(content)
    with pytest.raises(DatasetError) as raised:
        read_assignment(path)
    assert message in str(raised.value) and str(path) in str(raised.value)


def test_what_is_not_assigned_is_said() -> None:
    made = Assignment({"a": {"641": "m1", "650": "m2"}}, "types.json")
    assert made.type_of("a", "650") == "m2"
    with pytest.raises(ValueError, match=r"types\.json: scenario a has no agent '7', there are 641, 650"):
        made.type_of("a", "7")
    with pytest.raises(ValueError, match=r"types\.json: no scenario 'b' among its 1, such as a"):
        made.type_of("b", "7")


ASSIGNED = Assignment({"scenario_a": {"641": "full", "650": "thin"}})


def egos(root: Path, max_agents: int | None = None) -> EgoSource:
    return EgoSource(Opv2vSource(root, "test"), ASSIGNED.types_of, ("thin",), max_agents)


def test_the_ego_can_be_of_another_type(tmp_path: Path) -> None:
    source = egos(write_tree(tmp_path))
    outline = source.outline(0)
    assert (outline.ego_id, outline.agent_ids) == ("650", ("650", "641"))
    assert outline.world_SE3_ego[0, 3] == 10.0  # where the second agent is
    assert ASSIGNED.types_of(outline) == {"641": "full", "650": "thin"}
    assert load_scene(source, 0).ego.agent_id == "650"


def test_labels_are_those_of_the_chosen_agents(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    assert egos(root, 1).outline(0).agent_ids == ("650",) and egos(root, 1).scene_objects(0) is None
    complete = egos(root).scene_objects(0)
    assert complete is not None and complete.ids.tolist() == Opv2vSource(root, "test").scene_objects(0).ids.tolist()


def test_types_have_the_order_of_the_file_and_agents_without_one_are_named(tmp_path: Path) -> None:
    outline = Opv2vSource(write_tree(tmp_path), "test").outline(0)
    turned = Assignment({"scenario_a": {"7": "a", "650": "b", "641": "c"}})
    assert list(turned.types_of(outline).items()) == [("650", "b"), ("641", "c")]
    with pytest.raises(ValueError, match="scenario scenario_a has no agent '650'"):
        Assignment({"scenario_a": {"641": "c"}}).types_of(outline)


@pytest.mark.real
@pytest.mark.parametrize("data_set", ["opv2v", "v2xset"])
def test_the_published_files_are_read_and_the_ordered_ones_reproduced(data_set: str) -> None:
    folder = real_data("opv2v_pieces", "modality_assign")
    assert set(TYPES) == {
        kind for agents in read_assignment(folder / f"{data_set}_4modality.json").types.values() for kind in agents.values()
    }
    published = read_assignment(folder / f"{data_set}_4modality_in_order.json").types
    assert published == Assignment.in_order({name: agent_order(list(agents)) for name, agents in published.items()}, TYPES).types
    assert len(json.dumps(published)) > 500
