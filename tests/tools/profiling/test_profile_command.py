"""`heal profile` from a command line to its files, of a tiny alliance and of configurations, and its mistakes of the user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from heal.agent_types import same_type
from heal.agents.local_runtime import LocalRuntime
from heal.alliance import TrainingRecord, load_alliance, read_base_card, save_agent
from heal.config import save_config
from heal.errors import UserError
from heal.tools.benches.setup import bench_town
from heal.tools.profiling.costs import Accuracy, recorded_accuracy
from heal.tools.profiling.parameters import parameters_of
from heal.tools.shared.made_by import read_made_by
from heal.tools.shared.scoring import EVALUATIONS_NAME
from tests.agents.tiny_run import TinyAlliance, save_tiny_alliance
from tests.heal.networks import SECOND
from tests.tools.command import run_command
from tests.tools.training.small_training import SETTINGS

RUN = {"ap": {"0.3": 0.9, "0.5": 0.7, "0.7": 0.5}, "frames": 3, "range_m": []}
BETTER = {"ap": {"0.3": 0.9, "0.5": 0.8, "0.7": 0.6}, "frames": 3, "range_m": []}


@pytest.fixture(scope="module")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = save_tiny_alliance(tmp_path_factory.mktemp("alliance"))
    save_agent(path, "m2", TinyAlliance().agent("m2"), read_base_card(path).hash, TrainingRecord())
    (path / EVALUATIONS_NAME).write_text(json.dumps({"town, test": {"m1": RUN, "m1 + m2": BETTER}}))
    return path


@pytest.fixture(scope="module")
def profiled(alliance: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the folder of a whole profile, and what the command printed."""
    out = tmp_path_factory.mktemp("profile")
    return out, run_command("profile", alliance, "--agents", "2,1", "--steps", 1, "--device", "cpu", "--out", out)


def read(out: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((out / "profile.json").read_text())
    return values


def test_the_numbers_of_an_alliance(profiled: tuple[Path, str], alliance: Path) -> None:
    costs, opened = read(profiled[0]), load_alliance(alliance)
    base, own = parameters_of(opened.base), parameters_of(opened.agent("m1"))
    assert costs["growth"] == [
        {"name": "m1", "trained": base + own, "network": base + own, "aligned": 0, "in_all": base + own},
        {"name": "m2", "trained": own, "network": base + own, "aligned": own, "in_all": base + 2 * own},
    ]
    assert sum(costs["base_parameters"].values()) == base and not costs["papers_sizes"]
    assert costs["accuracy"] == [{"data": "town, test", "ap50": [0.7, 0.8], "ap70": [0.5, 0.6]}]
    assert [row["types"] for row in costs["frame_flops"]] == [["m1"], ["m1", "m2"]]
    first, second = ((row["stage"], row["agents"], row["device"]) for row in costs["training"])
    assert (first, second) == ((1, 2, "cpu"), (2, 1, "cpu"))
    assert all(row["peak_bytes"] > 0 and row["scenes_per_s"] > 0 for row in costs["training"])
    made_by = read_made_by(profiled[0])
    assert made_by is not None and costs["made_by"]["command"] == made_by.command and made_by.scenes.types == "m1,m2"


def test_a_message_has_the_bytes_that_a_run_sends(profiled: tuple[Path, str], alliance: Path) -> None:
    with LocalRuntime(load_alliance(alliance), bench_town(2), same_type("m1")) as runtime:
        sent = {record.size_bytes for record in next(iter(runtime.run([0]))).messages}
    sizes = {(row["name"], row["split"], row["codec"]): row["size_bytes"] for row in read(profiled[0])["messages"]}
    assert sent == {sizes["m1", "feature", "float32"]}
    maps_bytes = 4 * 8 * 32 * 32
    header = sizes["m1", "feature", "float32"] - maps_bytes
    assert 0 < header < 1000 and sizes["m2", "feature", "float16"] == header + maps_bytes // 2
    assert sizes["m1", "pyramid", "float32"] > maps_bytes + 4 * 16 * 16 * 16


def test_the_tables_and_the_figure(profiled: tuple[Path, str]) -> None:
    (out, printed), costs = profiled, read(profiled[0])
    page = (out / "profile.md").read_text()
    step = costs["growth"][1]
    numbers = " | ".join(f"{step[key]:,}" for key in ("trained", "network", "aligned", "in_all"))
    assert f"| m2 | {numbers} | 0.800 | 0.600 |" in page and "heal profile" in page
    for title in ("Parameters of each type", "GFLOP for one agent", "GFLOP for a frame", "Bytes of a message", "Training"):
        assert f"## {title}\n" in page and title in printed
    assert "published" not in page and "A multiplication and an addition count as two." in page
    assert all(f"{row['in_all']:,}" in printed for row in costs["growth"])  # no number is folded in 80 columns
    picture = imread(out / "profile.png")
    assert picture.shape[0] > 300 and picture.shape[1] > 600 and picture.std() > 0.01


def test_an_output_is_not_overwritten_by_accident_and_not_run_again(profiled: tuple[Path, str], alliance: Path) -> None:
    out = profiled[0]
    with pytest.raises(UserError, match="already holds the output of `heal profile"):
        run_command("profile", alliance, "--no-training", "--out", out)
    with pytest.raises(UserError, match=r"expected a folder with a run\.yaml"):
        run_command("rerun", out)


def test_configurations_without_weights_and_another_order(tmp_path: Path) -> None:
    save_config(SETTINGS, tmp_path / "base.yaml")
    save_config(SECOND, tmp_path / "wide.yaml")
    options = ("--base", tmp_path / "base.yaml", "--types", f"m1, {tmp_path / 'wide.yaml'}", "--no-training", "--agents", "1")
    run_command("profile", *options, "--out", tmp_path / "out")
    costs, made_by = read(tmp_path / "out"), read_made_by(tmp_path / "out")
    assert [step["name"] for step in costs["growth"]] == ["m1", "wide"]
    assert (costs["training"], costs["accuracy"]) == ([], [])
    assert made_by is not None and made_by.alliance.path == "base.yaml: m1, wide" and len(made_by.alliance.hash) == 64
    run_command("profile", *options, "--in-order", "wide", "--out", tmp_path / "out", "--overwrite")
    assert [step["name"] for step in read(tmp_path / "out")["growth"]] == ["wide"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"run.yaml", "profile.json", "profile.md", "profile.png"}


def test_the_record_of_ap_counts_as_far_as_the_order_was_evaluated() -> None:
    runs = {"m1": RUN, "m1 + m2": BETTER, "m1 + m2 + m3 + m4": BETTER}
    nothing = {"ap": {"0.3": None, "0.5": None, "0.7": None}}
    evaluations = {"a, test": runs, "b, test": {"all agents": RUN}, "c, test": {"m1": nothing}}
    assert recorded_accuracy(("m1", "m2", "m3", "m4"), evaluations) == (Accuracy("a, test", (0.7, 0.8), (0.5, 0.6)),)
    assert recorded_accuracy(("m2", "m1"), evaluations) == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("nowhere",), "nowhere is not an alliance: nowhere/base/base.yaml is missing; `heal train base` makes one"),
        ((), "expected an alliance folder, or --base with a configuration and --types with those that join it"),
        (("ALLIANCE", "--base", "base.yaml"), "expected an alliance folder, or --base"),
        (("ALLIANCE", "--types", "m2"), "expected an alliance folder, or --base"),
        (("ALLIANCE", "--in-order", "m1,m7"), "--in-order: no agent type 'm7'; expected some of m1, m2"),
        (("ALLIANCE", "--agents", "1,0"), "--agents 1,0: expected numbers of agents from 1, separated by commas, such as 1,2,5"),
        (("--base", "base.yaml", "--types", "m2,m77"), "m77: no such file, and no shipped configuration of that name; there are"),
    ],
)
def test_mistakes_are_one_sentence(options: tuple[str, ...], message: str, alliance: Path, tmp_path: Path) -> None:
    words = [alliance if word == "ALLIANCE" else word for word in options]
    with pytest.raises(UserError) as caught:
        run_command("profile", *words, "--out", tmp_path / "out")
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
