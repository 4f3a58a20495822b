"""No fusion and late fusion as the paper evaluates them: which agents detect, where, and against which labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from heal.agent_model import AgentModel
from heal.agents.records import TickResult
from heal.alliance import TrainingRecord, read_base_card, save_agent, save_base
from heal.errors import UserError
from heal.layers.compressor import Compressor, CompressorConfig
from heal.storage.compressors import save_compressor
from heal.tools.shared.scene_matches import read_scenes
from tests.agents.fusion.test_late_run import TinyDetectors
from tests.agents.tiny_run import save_tiny_alliance
from tests.datasets.opv2v.opv2v_tree import write_tree
from tests.golden.fixture import Fixture, golden_units
from tests.golden.recorded_scenes import RecordedScene, recorded_scenes
from tests.tools.command import run_command
from tests.tools.protocols.test_ego_and_range import arguments_of, evaluated, types_of, used

WIDE = ("--range-m", -25.6, -12.8, -3, 25.6, 12.8, 1)


def save_detector(path: Path, name: str, own: str = "m1") -> Path:
    """Write a detector of a type, with the networks of a tiny one."""
    tiny = TinyDetectors()
    base_hash = save_base(path, tiny.base_of(own), TrainingRecord())
    agent: AgentModel = tiny.agent(own)
    save_agent(path, name, agent, base_hash, TrainingRecord())
    return path


@pytest.fixture(scope="module")
def detectors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the alliance of each detector by its type."""
    folder = tmp_path_factory.mktemp("detectors")
    return {name: save_detector(folder / name, name, own) for name, own in (("m1", "m1"), ("m2", "m2"), ("m3", "m1"), ("m4", "m2"))}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tree of three agents, 10 m apart, each of which labels two of four vehicles."""
    return write_tree(tmp_path_factory.mktemp("data"), ("641", "650", "659"))


def late_options(detectors: dict[str, Path], *names: str) -> list[object]:
    return ["--late", *(part for name in names for part in ("--alliance", detectors[name]))]


def ids(result: TickResult) -> list[int]:
    return sorted(result.ground_truth.ids.tolist())


def test_without_fusion_the_ego_is_scored_against_the_labels_of_all_agents_in_range(
    detectors: dict[str, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("--alliance", detectors["m1"], "--data", data, "--agents", 1, *WIDE)
    for comm_range_m, expected in ((5, [300, 301]), (12, [300, 301, 302])):
        results = evaluated(monkeypatch, *common, "--comm-range-m", comm_range_m, "--out", tmp_path / str(comm_range_m))
        assert [(used(result), ids(result)) for result in results] == [(["641"], expected)] * 2


def test_late_in_order_joins_the_boxes_of_the_first_agents(detectors: dict[str, Path], data: Path, tmp_path: Path) -> None:
    common = ("--data", data, "--pictures", 1, "--threads", 1, *WIDE)
    run_command("evaluate", *late_options(detectors, "m1", "m2"), *common, "--in-order", "m1,m2,m1", "--out", tmp_path / "late")
    run_command("evaluate", "--alliance", detectors["m1"], *common, "--agents", 1, "--out", tmp_path / "alone")
    found = json.loads((tmp_path / "late" / "metrics.json").read_text())
    alone = json.loads((tmp_path / "alone" / "metrics.json").read_text())
    assert [(step["run"], step["agents"]) for step in found["steps"]] == [("m1", 1), ("m1 + m2", 2), ("m1 + m2 + m1", 3)]
    assert found["steps"][0]["ap"] == found["ego_alone"]["ap"] == alone["ap"] and found["ground_truths"] == alone["ground_truths"]
    folders = found["made_by"]["alliance"]["path"]
    assert folders == f"{detectors['m1']}, {detectors['m2']}" and "--late" in found["made_by"]["command"]
    matches = read_scenes(tmp_path / "late")
    assert not np.array_equal(matches["m1"].scores, matches["m1 + m2"].scores), "the second agent's boxes change the result"


def test_a_base_that_fuses_serves_for_late_fusion_too(data: Path, tmp_path: Path) -> None:
    alliance = save_tiny_alliance(tmp_path / "alliance")
    for name, options in (("alone", ("--agents", 1)), ("late", ("--late", "--agents", 1)), ("all", ("--late",))):
        common = ("--alliance", alliance, "--data", data, "--pictures", 0, "--threads", 1, *WIDE)
        run_command("evaluate", *common, *options, "--out", tmp_path / name)
    alone, late, everyone = (read_scenes(tmp_path / name) for name in ("alone", "late", "all"))
    for part in ("scores", "found_bev", "detections"):
        np.testing.assert_array_equal(getattr(late["ego alone"], part), getattr(alone["ego alone"], part))
    assert not np.array_equal(everyone["all agents"].scores, late["ego alone"].scores)


@pytest.mark.parametrize("fixture", golden_units("mini_dataset"))
def test_agents_types_poses_and_labels_are_those_recorded(
    fixture: Fixture, detectors: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = list(recorded_scenes(fixture, fused=False))
    options = [*late_options(detectors, "m1", "m2", "m3", "m4"), *arguments_of(scenes[0])]
    results = evaluated(monkeypatch, *options, "--out", tmp_path / "out")
    assert len(results) == len(scenes) > 1
    for recorded, result in zip(scenes, results, strict=True):
        agents = recorded_agents(recorded)
        assert sorted(used(result)[1:]) == sorted(set(agents) - {"ego"}) and used(result)[0] == result.ego_id
        for name, kind in zip(used(result), types_of(result, used(result)), strict=True):
            assert kind == recorded.plain(f"{agents_name(name, result)}/modality_name")
        # The recorded labels of this set are those that cameras see, a part of all.
        labelled = {number for agent in agents for number in recorded.plain(f"{agent}/object_ids")}
        assert labelled & set(result.ground_truth.ids.tolist())


def test_what_late_fusion_cannot_do_is_refused(detectors: dict[str, Path], data: Path, tmp_path: Path) -> None:
    common = ("evaluate", "--data", data, "--out", tmp_path / "out", *WIDE)
    both = ("--alliance", detectors["m1"], "--alliance", detectors["m2"])
    same = save_detector(tmp_path / "same", "m1")
    for options, message in (
        (("--alliance", detectors["m1"]), "does not fuse feature maps of several agents.*--agents 1.*--late"),
        (("--alliance", detectors["m1"], "--in-order", "m1,m1"), "does not fuse feature maps of several agents"),
        (both, "several alliances are for late fusion; add --late"),
        ((*both, "--late", "--record"), "belongs to none of them"),
        (("--alliance", detectors["m1"], "--alliance", same, "--late"), "both have an agent type m1"),
        ((*both, "--late", "--types", "m1,m7"), "no agent type 'm7' in .*; there are m1, m2"),
    ):
        with pytest.raises(UserError, match=message):
            run_command(*common, *options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [("sweep", "loss"), ("analyse",)], ids=["sweep", "analyse"])
def test_commands_that_show_fusion_refuse_a_detector(detectors: dict[str, Path], tmp_path: Path, command: tuple[str, ...]) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match="is a single-agent detector, which"):
        run_command(*command, "--alliance", detectors["m1"], "--preset", "test", "--out", out)
    assert not out.exists()


def test_types_that_are_not_aligned_take_part_where_they_are_named(data: Path, tmp_path: Path) -> None:
    alliance, other = save_tiny_alliance(tmp_path / "tiny"), save_tiny_alliance(tmp_path / "other", seed=1)
    run_command("alliance", "add", alliance, other / "m1", "--as", "apart", "--unaligned")
    common = ("evaluate", "--alliance", alliance, "--late", "--data", data, "--pictures", 0, "--threads", 1, *WIDE)
    run_command(*common, "--types", "m1,apart", "--out", tmp_path / "late")
    assert json.loads((tmp_path / "late" / "metrics.json").read_text())["lidar_lines"] == {"apart": 64, "m1": 64}
    with pytest.raises(UserError, match=r"no agent type 'm7' in .*; there are m1$"):
        run_command(*common, "--types", "m7", "--out", tmp_path / "out")


def test_compressors_of_one_of_several_bases_are_no_problem(
    detectors: dict[str, Path], data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = save_detector(tmp_path / "first", "m1")
    network = Compressor(CompressorConfig(channels=8, ratio=2))
    save_compressor(first, network, read_base_card(first).hash, TrainingRecord())
    common = ("--data", data, "--types", "m1,m2", "--pictures", 0, "--threads", 1, "--out", tmp_path / "out", *WIDE)
    run_command("evaluate", "--late", "--alliance", first, "--alliance", detectors["m2"], *common)
    assert "compressor" not in caplog.text


def recorded_agents(recorded: RecordedScene) -> list[str]:
    """Return the agents of a recorded scene; the ego is called "ego"."""
    names = (name.split("/") for name in recorded.arrays.files if name.endswith("/modality_name#json"))
    return [parts[2] for parts in names if parts[:2] == [recorded.run, str(recorded.index)]]


def agents_name(agent_id: str, result: TickResult) -> str:
    return "ego" if agent_id == result.ego_id else agent_id
