"""`heal export --program` and `--onnx`: files are written, described and checked; wrong ones are deleted."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from heal.agent_model import AgentModel
from heal.alliance import TrainingRecord, save_agent, save_base
from heal.base_model import BaseModel
from heal.config import ConfigError
from heal.graphs.traceable import Example, agent_graph, base_graphs
from heal.tools import export_graphs
from tests.heal.networks import AGENT, BASE, GRID
from tests.tools.command import run_command


@pytest.fixture(scope="module")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("alliances") / "alliance"
    base_hash = save_base(path, BaseModel(BASE), TrainingRecord())
    save_agent(path, "m1", AgentModel(AGENT, GRID), base_hash, TrainingRecord())
    return path


@pytest.mark.parametrize("form", ["program", "onnx"])
def test_files_are_written_and_described(form: export_graphs.Format, alliance: Path, tmp_path: Path) -> None:
    if form == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)
    out = tmp_path / "out"
    output = run_command("export", alliance, "--out", out, f"--{form}")
    card = json.loads((out / "graphs.json").read_text())
    files = [graph["file"] for graph in card["graphs"]]
    assert files == [f"{name}{export_graphs.SUFFIX[form]}" for name in ("m1", "base", "trunk", "fusion")]
    assert sorted(path.name for path in out.iterdir()) == sorted([*files, "graphs.json"])
    assert all(file in output for file in files)
    assert card["base"]["config"]["grid"]["cell_m"] == GRID.cell_m and len(card["base"]["hash"]) == 64
    assert card["agents"]["m1"]["coverage"] == [0.0, 0.0] and len(card["agents"]["m1"]["hash"]) == 64
    for graph in card["graphs"]:
        assert graph["sha256"] == hashlib.sha256((out / graph["file"]).read_bytes()).hexdigest()
        assert 0 <= graph["deviation"] < 1e-5
    assert card["graphs"][0]["inputs"][0] == {"name": "points", "dtype": "float32", "shape": ["pillars", 8, 4]}
    assert card["graphs"][1]["inputs"][1] == {"name": "agent_SE3_ego", "dtype": "float64", "shape": ["agents", 4, 4]}
    assert card["graphs"][1]["outputs"][0] == {"name": "classification", "dtype": "float32", "shape": [1, 2, GRID.ny, GRID.nx]}
    with pytest.raises(ConfigError, match="holds an export"):
        run_command("export", alliance, "--out", out, f"--{form}")


def test_a_file_that_deviates_is_refused_and_deleted(tmp_path: Path) -> None:
    graph = agent_graph("m1", AgentModel(AGENT, GRID).eval())

    def wrong(count: int) -> Example:
        example = graph.example(count)
        return Example(example.inputs, (example.outputs[0] * 1.001,))

    with pytest.raises(ConfigError, match=r"m1\.pt2: deviates from the networks by 1\.0e-03"):
        export_graphs.export_graph(replace(graph, example=wrong), tmp_path, "program")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_nan_is_refused(tmp_path: Path) -> None:
    base = BaseModel(BASE).eval()
    base.cls_head.weight.data.fill_(torch.nan)
    with pytest.raises(ConfigError, match="deviates from the networks by nan"):
        export_graphs.export_graph(base_graphs(base)[2], tmp_path, "program")


def test_missing_packages_are_named(alliance: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_graphs, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(ConfigError, match="needs onnxscript; pip install onnx onnxscript onnxruntime"):
        run_command("export", alliance, "--out", tmp_path / "out", "--onnx")
    assert not (tmp_path / "out").exists()


def test_options_that_contradict_each_other_are_refused(alliance: Path, tmp_path: Path) -> None:
    for options in (("--onnx", "--program"), ("--program", "--rename", "m1=m2")):
        with pytest.raises(ConfigError, match="do not go together"):
            run_command("export", alliance, "--out", tmp_path / "out", *options)
