"""`heal import` of wrapped, damaged and not finite checkpoints, and renaming that would lose an agent type."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heal.alliance import AllianceError, TrainingRecord, load_alliance, save_agent, save_base
from heal.config import ConfigError
from heal.tools.export import export_alliance
from heal.tools.import_runs import find_checkpoint, read_run
from tests.tools.command import run_command
from tests.tools.test_exchange import _write_alliance

CHECKPOINT = "net_epoch1.pth"


@pytest.fixture(scope="module")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_alliance(tmp_path_factory.mktemp("alliances") / "alliance", ("m1", "m2"))


@pytest.fixture
def run(alliance: Path, tmp_path: Path) -> Path:
    """Return a run folder of HEAL with m1 and m2."""
    export_alliance(load_alliance(alliance), {"m1": "m1", "m2": "m2"}, tmp_path / "run")
    return tmp_path / "run"


def with_training_state(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return what a training loop stores: options, a best score and the optimiser's state beside the weights."""
    options = argparse.Namespace(lr=0.1, out=Path("runs"))
    return {"model": state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, "args": options, "best": np.float64(0.5)}


@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (lambda state: {f"module.{key}": tensor for key, tensor in state.items()}, "the prefix module."),
        (lambda state: {"epoch": 3, "state_dict": state}, "the wrapper state_dict"),
        (with_training_state, "the wrapper model"),
    ],
)
def test_a_wrapped_checkpoint_is_the_same_run(run: Path, tmp_path: Path, wrap: Callable[[dict[str, Any]], Any], words: str) -> None:
    assert "took off" not in run_command("import", run, "--out", tmp_path / "plain")
    torch.save(wrap(torch.load(run / CHECKPOINT, weights_only=True)), run / CHECKPOINT)
    assert f"took off {words}\n" in run_command("import", run, "--out", tmp_path / "wrapped")
    plain, wrapped = load_alliance(tmp_path / "plain"), load_alliance(tmp_path / "wrapped")
    assert plain.base_hash == wrapped.base_hash
    assert [plain.agent_card(name).hash for name in ("m1", "m2")] == [wrapped.agent_card(name).hash for name in ("m1", "m2")]


DAMAGED = {
    "empty": (lambda whole: b"", "is empty"),
    "cut early": (lambda whole: whole[:1000], "the file is cut"),
    "cut": (lambda whole: whole[:20000], "the file is cut"),
    "cut late": (lambda whole: whole[:-1], "the file is cut"),
    "pointer": (lambda whole: b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n", "pointer of Git LFS"),
    "page": (lambda whole: b"<!DOCTYPE html>\n<html>Sign in</html>" + b" " * 100, r"text, not a checkpoint; .*<!DOCTYPE"),
    "other bytes": (lambda whole: bytes(range(256)) * 20, "no checkpoint of torch"),
    "zeros": (lambda whole: bytes(5000), "no checkpoint of torch"),
    "damaged index": (lambda whole: whole.replace(b"ctorch._utils", b"ctorch._utilz"), "not a file of weights alone|no checkpoint"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_checkpoint_is_named_with_its_cause_in_one_line(run: Path, name: str) -> None:
    damage, message = DAMAGED[name]
    (run / CHECKPOINT).write_bytes(damage((run / CHECKPOINT).read_bytes()))
    with pytest.raises(ConfigError, match=message) as refused:
        read_run(run)
    assert str(find_checkpoint(run)) in str(refused.value) and len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("cut", [1, 40, 400])
def test_a_cut_checkpoint_in_torchs_old_format_is_named(run: Path, cut: int) -> None:
    torch.save(torch.load(run / CHECKPOINT), run / CHECKPOINT, _use_new_zipfile_serialization=False)
    read_run(run)
    whole = (run / CHECKPOINT).read_bytes()
    (run / CHECKPOINT).write_bytes(whole[: len(whole) // cut - 1])
    with pytest.raises(ConfigError, match="no checkpoint of torch"):
        read_run(run)


def test_weights_that_are_not_finite_are_refused_unless_nobody_uses_them(run: Path) -> None:
    state = torch.load(run / CHECKPOINT)
    state["cls_head.bias"][1] = torch.inf
    state["unused.weight"] = torch.full((2,), torch.nan)
    torch.save(state, run / CHECKPOINT)
    with pytest.raises(ConfigError, match=r"1 weights of the checkpoint are not finite, first cls_head.bias"):
        read_run(run)
    state["cls_head.bias"][1] = 0.0
    torch.save(state, run / CHECKPOINT)
    assert read_run(run).dropped == ("unused.weight",)


@pytest.mark.parametrize("part", ["base", "m1"])
def test_an_alliance_whose_weights_are_not_finite_is_refused(alliance: Path, tmp_path: Path, part: str) -> None:
    """All commands read an alliance so: evaluate, simulate, and train with --init."""
    opened = load_alliance(alliance)
    base, agent = opened.base, opened.agent("m1")
    network = base.cls_head if part == "base" else agent.backbone
    next(network.parameters()).data[0] = torch.nan
    save_agent(tmp_path, "m1", agent, save_base(tmp_path, base, TrainingRecord()), TrainingRecord())
    with pytest.raises(AllianceError, match=rf"{part}/.*safetensors: 1 weights are not finite, first .*weight"):
        load_alliance(tmp_path).agent("m1")


@pytest.mark.parametrize(
    ("renames", "message"),
    [
        (("m2=m1",), "m1 and m2 would both be called m1"),
        (("m1=m3", "m2=m3"), "m1 and m2 would both be called m3"),
        (("m2=m3", "m2=m4"), "one new name for each type"),
        (("m9=m3",), "no agent type 'm9'; there are m1, m2"),
    ],
)
def test_renaming_loses_no_agent_type(alliance: Path, run: Path, tmp_path: Path, renames: tuple[str, ...], message: str) -> None:
    options = [part for rename in renames for part in ("--rename", rename)]
    with pytest.raises(ConfigError, match=message):
        run_command("import", run, *options, "--out", tmp_path / "out")
    with pytest.raises(ConfigError, match=message):
        run_command("export", alliance, *options, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_types_may_swap_their_names(alliance: Path, run: Path, tmp_path: Path) -> None:
    run_command("import", run, "--rename", "m1=m2", "--rename", "m2=m1", "--out", tmp_path / "swapped")
    before, after = load_alliance(alliance), load_alliance(tmp_path / "swapped")
    assert [after.agent_card(name).hash for name in ("m2", "m1")] == [before.agent_card(name).hash for name in ("m1", "m2")]
