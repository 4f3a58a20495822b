"""`heal doctor`: exit codes, its list and the training that takes it, links, JSON, an interruption, several processes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from heal.config import save_config
from heal.datasets.damage_list import read_damage_list
from heal.datasets.dataset import Dataset, DatasetError
from heal.datasets.doctor.checkup import walk_in_turn
from heal.datasets.doctor.facts import Installed, SceneReport
from heal.datasets.doctor.finding import KINDS
from heal.datasets.open import open_dataset
from heal.tools.cli import app
from heal.tools.doctor import command
from heal.tools.doctor.walk import walk
from heal.types import SensorChoice
from tests.datasets.doctor.doctor_dair_tree import write_dair_tree
from tests.datasets.doctor.doctor_tree import STAMPS, write_tree
from tests.datasets.doctor.planted import CLOUD, IMAGE, complemented, halved, removed
from tests.tools.command import run_command
from tests.tools.training.small_training import SETTINGS

DOCS = Path(__file__).parents[3] / "docs"


def _doctor(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["doctor", *map(str, arguments), "--workers", "1"])


def test_a_training_leaves_out_what_the_doctor_lists_and_no_more(tmp_path: Path) -> None:
    root, listed = write_tree(tmp_path), tmp_path / "skip.json"
    removed(CLOUD)(tmp_path)
    halved(IMAGE.with_name(f"{STAMPS[4]}_camera0.png"))(tmp_path)
    result = _doctor(root, "--skip-list", listed)
    assert result.exit_code == 3, result.output
    assert f"{CLOUD.name}: expected the file; found no such file" in result.output and "5 frames can be used" in result.output
    known = read_damage_list(listed, root)
    assert set(known["train"]) == {f"scenario_a/{STAMPS[2]}", f"scenario_a/{STAMPS[4]}"}
    save_config(replace(SETTINGS, training=replace(SETTINGS.training, epochs=1)), tmp_path / "base.yaml")
    paths = ("--config", tmp_path / "base.yaml", "--data", root, "--split", "train", "--out", tmp_path / "out")
    said = run_command("train", "base", *paths, "--device", "cpu", "--on-damage", listed)
    assert "1 of 6 scenes are left out" in said  # the LiDAR type of this training needs no image
    record = json.loads((tmp_path / "out" / "data.json").read_text())
    assert [scene for scene, _ in record["skipped"]] == [f"scenario_a/{STAMPS[2]}"] and record["damaged_scenes"] == 1


def test_a_list_of_another_data_set_is_refused(tmp_path: Path) -> None:
    root, listed = write_tree(tmp_path / "one"), tmp_path / "skip.json"
    removed(CLOUD)(tmp_path / "one")
    assert _doctor(root, "--skip-list", listed).exit_code == 3
    with pytest.raises(DatasetError, match=r"expected a list for .*other, got one for .*one/OPV2V; run heal doctor"):
        read_damage_list(listed, tmp_path / "other")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(DatasetError, match="a list that `heal doctor` has written"):
        read_damage_list(tmp_path / "other.json", root)


def test_a_folder_without_a_data_set_is_not_usable(tmp_path: Path) -> None:
    result = _doctor(tmp_path, "--json")
    record = json.loads(result.stdout)
    assert result.exit_code == 4 and record["verdict"] == "not usable"
    assert [finding["kind"] for finding in record["findings"]] == ["unknown-layout"]


def test_json_has_the_configurations_that_can_run(tmp_path: Path) -> None:
    result = _doctor(write_dair_tree(tmp_path), "--json")
    record = json.loads(result.stdout)
    assert result.exit_code == 0 and record["verdict"] == "usable"
    assert record["splits"][0]["frames"] == record["splits"][0]["usable"] == 6
    can = {name for name, reason in record["configurations"].items() if reason == "can run"}
    assert {"recipes/dair/stage1_m1.yaml", "recipes/dair/stage2_m2.yaml"} <= can
    assert record["configurations"]["recipes/opv2v/stage1_m2.yaml"] == "no camera1, camera2, camera3 for m2"


def test_links_put_misplaced_archives_in_their_place(tmp_path: Path) -> None:
    data = tmp_path / "data"
    root = write_tree(data)
    (data / "OPV2V_Hetero").rename(data / "OPV2V-H")
    before = sorted(path.relative_to(data) for path in data.rglob("*"))
    result = _doctor(root, "--fix", tmp_path / "links")
    assert result.exit_code == 0 and "linked" in result.output
    source = open_dataset(tmp_path / "links", "train")
    assert source.beams == (16, 32, 64)
    assert source.agent_frame(0, "650", SensorChoice(beams=16)).lidar is not None
    assert sorted(path.relative_to(data) for path in data.rglob("*")) == before
    assert "expected a new or empty folder" in str(_doctor(root, "--fix", tmp_path / "links").exception)


def test_links_put_complemented_labels_over_the_original_ones(tmp_path: Path) -> None:
    root = write_dair_tree(tmp_path / "data")
    complemented()(root)
    assert _doctor(root, "--fix", tmp_path / "links").exit_code == 0
    source = open_dataset(tmp_path / "links", "train")
    assert source.summary.labels == "complemented labels" and len(source) == 6
    origin = source.scene_origin(0)
    assert any("complemented" in str(path.resolve()) for path in origin.files)


def test_an_interruption_shows_the_findings_so_far_and_writes_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, listed = write_tree(tmp_path), tmp_path / "skip.json"
    removed(CLOUD)(tmp_path)

    def interrupted(source: Dataset, installed: Installed, processes: int) -> Iterator[SceneReport]:
        for number, report in enumerate(walk_in_turn(source, installed)):
            if number == 4:
                raise KeyboardInterrupt
            yield report

    monkeypatch.setattr(command, "walk", interrupted)
    result = _doctor(root, "--skip-list", listed)
    assert result.exit_code == 130 and CLOUD.name in result.output and "no verdict" in result.output
    assert not listed.exists()


def test_several_processes_find_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_tree(tmp_path)
    halved(CLOUD)(tmp_path)
    monkeypatch.setattr("heal.tools.doctor.walk.AT_ONCE", 3)
    source, installed = open_dataset(root, "train"), Installed(lidar=True)
    found = [[report.findings for report in reports] for reports in (walk(source, installed, 2), walk_in_turn(source, installed))]
    assert found[0] == found[1] and any(found[0])


def test_the_page_lists_every_kind_of_finding() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| (\w+) \| (.+) \|$", (DOCS / "doctor.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(name, kind.severity, kind.meaning) for name, kind in KINDS.items()]
