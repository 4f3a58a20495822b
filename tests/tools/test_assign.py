"""`heal assign` writes an agent type for every agent of a data set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.datasets.dair import dair_tree
from tests.datasets.opv2v.opv2v_tree import write_tree
from tests.tools.command import run_command


def test_in_order(tmp_path: Path) -> None:
    write_tree(tmp_path, ("-1", "641", "650", "659", "668", "677"))
    out = tmp_path / "types.json"
    output = run_command("assign", tmp_path, "--split", "test", "--types", "a, b,c", "--in-order", "--out", out)
    expected = {"641": "a", "650": "b", "659": "c", "668": "a", "677": "b", "-1": "c"}
    assert json.loads(out.read_text()) == {"scenario_a": expected}
    assert "2 a, 2 b, 2 c" in " ".join(output.split())


def test_at_random_by_seed(tmp_path: Path) -> None:
    write_tree(tmp_path, tuple(str(number) for number in range(40)))
    contents = set()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run_command("assign", tmp_path, "--types", "m1,m2", "--seed", seed, "--out", tmp_path / name)
        contents.add((tmp_path / name).read_text())
    assert len(contents) == 2


def test_dair_and_several_splits(tmp_path: Path) -> None:
    root = dair_tree.write_tree(tmp_path)
    run_command("assign", root, "--split", "train,val", "--types", "m1,m2", "--in-order", "--out", tmp_path / "types.json")
    assert json.loads((tmp_path / "types.json").read_text()) == {"3": {"vehicle": "m1", "roadside": "m2"}}


def test_names_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--types 'm1,': expected names separated by commas"):
        run_command("assign", tmp_path, "--types", "m1,", "--out", "x")
