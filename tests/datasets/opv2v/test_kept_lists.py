"""The lists of a split that a cache keeps: the same scenes as without a cache, and made anew after every change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heal.datasets.cache.entry_file import Entry, write_entry
from heal.datasets.opv2v import source as source_module
from heal.datasets.opv2v.kept_lists import split_stamp
from heal.datasets.opv2v.source import Opv2vSource
from tests.datasets.opv2v.opv2v_tree import metadata, write_frame, write_tree


def _described(source: Opv2vSource) -> object:
    return [source.listed(index).agent_ids for index in range(len(source))], source.summary, source.scenario_agents


def _forget_to_list(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise AssertionError(f"listed again: {arguments}")

    monkeypatch.setattr(source_module, "list_scenarios", fail)
    monkeypatch.setattr(source_module, "check_labels", fail)


def test_a_split_that_is_opened_again_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_tree(tmp_path, ("641", "-1", "650"))
    (root / "test" / "scenario_a" / "notes").mkdir()
    write_frame(root / "test" / "scenario_b" / "7", "000010", {**metadata(), "vehicles": None})
    first = Opv2vSource(root, "test", on_damage="skip", cache=tmp_path / "cache")
    assert _described(first) == _described(Opv2vSource(root, "test", on_damage="skip"))
    _forget_to_list(monkeypatch)
    assert _described(Opv2vSource(root, "test", on_damage="skip", cache=tmp_path / "cache")) == _described(first)


def test_every_choice_of_agents_has_findings_of_its_own(tmp_path: Path) -> None:
    root, cache = write_tree(tmp_path, ("641", "650")), tmp_path / "cache"
    write_frame(root / "test" / "scenario_a" / "650", "000070", {**metadata(), "vehicles": None})
    for choice in ({"max_agents": 1}, {"max_agents": 2}, {"ego_id": "650"}):
        for _ in range(2):
            kept = Opv2vSource(root, "test", on_damage="skip", cache=cache, **choice)
            assert _described(kept) == _described(Opv2vSource(root, "test", on_damage="skip", **choice)), choice
    assert len(Opv2vSource(root, "test", max_agents=1, cache=cache)) == 2
    assert len(Opv2vSource(root, "test", on_damage="skip", cache=cache)) == 1


def test_a_relative_folder_gives_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = write_tree(tmp_path, ("641", "650")), tmp_path / "cache"
    write_frame(root / "test" / "scenario_a" / "650", "000070", {**metadata(), "vehicles": None})
    monkeypatch.chdir(tmp_path)
    for folder in (root, Path("OPV2V"), root):
        assert len(Opv2vSource(folder, "test", on_damage="skip", cache=cache)) == 1


def _add_frame(folder: Path) -> None:
    write_frame(folder, "000072", metadata())


def _remove_frame(folder: Path) -> None:
    (folder / "000070.yaml").unlink()


def _take_labels(folder: Path) -> None:
    path = folder / "000070.yaml"
    path.write_text(path.read_text().partition("vehicles:")[0])


@pytest.mark.parametrize(("change", "scenes"), [(_add_frame, 3), (_remove_frame, 1), (_take_labels, 1)])
def test_a_changed_split_is_listed_again(change: Callable[[Path], None], scenes: int, tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    open_split: Callable[[], Opv2vSource] = lambda: Opv2vSource(root, "test", on_damage="skip", cache=tmp_path / "cache")  # noqa: E731
    assert len(open_split()) == 2
    change(root / "test" / "scenario_a" / "641")
    assert len(open_split()) == scenes


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"scenarios": [], "skipped": [1]},
        {"scenarios": [{"name": "a", "has_maps": False, "agents": {}}], "skipped": []},
        {"scenarios": [{"name": "a", "has_maps": False, "agents": {"641": "x"}}], "skipped": []},
        {"scenarios": [{"name": "a", "has_maps": False, "agents": {"641": 5}}], "skipped": []},
        {"unlabelled": [5], "left_out": {}},
        {"unlabelled": [], "left_out": {"car": "many"}},
    ],
)
def test_entries_with_other_content_are_made_anew(values: dict[str, Any], tmp_path: Path) -> None:
    root, cache = write_tree(tmp_path), tmp_path / "cache"
    expected = _described(Opv2vSource(root, "test", cache=cache))
    stamps = [split_stamp(root / "test")]
    paths = [path for path in cache.rglob("*") if path.is_file()]
    assert len(paths) == 2
    for path in paths:
        write_entry(path, stamps, Entry(values))
    assert _described(Opv2vSource(root, "test", cache=cache)) == expected
