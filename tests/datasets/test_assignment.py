"""Assignments of agent types: HEAL's files, written files, and a source whose agents have the assigned types."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heal.datasets.assignment import AssignedSource, Assignment, read_assignment, write_assignment
from heal.datasets.dataset import DatasetError
from heal.datasets.opv2v.index import agent_order
from heal.datasets.opv2v.source import Opv2vSource
from heal.types import SensorChoice, load_scene
from tests.datasets.opv2v.opv2v_tree import write_tree
from tests.datasets.opv2v.test_opv2v import write_hetero
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


def assigned(root: Path, ego_types: tuple[str, ...] = (), max_agents: int | None = None) -> AssignedSource:
    assignment = Assignment({"scenario_a": {"641": "full", "650": "thin"}})
    choices = {"full": SensorChoice(), "thin": SensorChoice(beams=16)}
    return AssignedSource(Opv2vSource(root, "test"), assignment, choices, ego_types, max_agents)


def test_every_agent_senses_what_its_type_wants(tmp_path: Path) -> None:
    root = write_tree(tmp_path, stamps=("000068",))
    write_hetero(tmp_path / "OPV2V_Hetero" / "test" / "scenario_a")
    scene = load_scene(assigned(root), 0)
    scans = [frame.lidar for frame in scene.frames]
    assert [(scan.beams, len(scan.points)) for scan in scans if scan] == [(64, 3), (16, 1)]
    other = assigned(root).agent_frame(0, "641", SensorChoice(beams=32)).lidar
    assert other is not None and other.beams == 32


def test_the_ego_can_be_of_another_type(tmp_path: Path) -> None:
    source = assigned(write_tree(tmp_path), ("thin",))
    outline = source.outline(0)
    assert (outline.ego_id, outline.agent_ids) == ("650", ("650", "641"))
    assert outline.world_SE3_ego[0, 3] == 10.0  # where the second agent is
    assert source.types_of(outline) == {"650": "thin", "641": "full"}
    assert assigned(source.source.root, ("thin",), 1).outline(0).agent_ids == ("650",)  # type: ignore[attr-defined]


def test_a_type_of_which_nothing_is_known_is_named(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    source = AssignedSource(
        Opv2vSource(root, "test"), Assignment({"scenario_a": {"641": "m9", "650": "m1"}}), {"m1": SensorChoice()}
    )
    with pytest.raises(ValueError, match="agent 641 is of type 'm9'; sensor choices are known for m1"):
        source.agent_frame(0, "641")


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
