"""The weights of a checkpoint are found whatever a training tool stored around them, and their names are those of the network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from heal.config import ConfigError
from heal.opencood.wrappers import unwrap

STATE = {"cls_head.weight": torch.ones(2), "encoder_m1.conv.bias": torch.zeros(3), "step": torch.tensor(4)}
OPTIMISER = {"state": {0: {"exp_avg": torch.ones(2), "step": torch.tensor(1)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: tensor for key, tensor in STATE.items()}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (STATE, ""),
        (prefixed("module."), "the prefix module."),
        (prefixed("_orig_mod."), "the prefix _orig_mod."),
        (prefixed("module._orig_mod."), "the prefix module. and the prefix _orig_mod."),
        ({"epoch": 3, "state_dict": STATE}, "the wrapper state_dict"),
        ({"model": STATE, "optimizer": OPTIMISER, "lr_scheduler": {"last_epoch": 1}}, "the wrapper model"),
        ({"state_dict": prefixed("model."), "pytorch-lightning_version": "2.0"}, "the wrapper state_dict and the prefix model."),
        ({"checkpoint": {"model_state_dict": prefixed("module.")}}, None),
        ({"model": STATE, "ema": STATE}, "the wrapper model"),
        ({"my_network": STATE, "optimizer_states": {"a": torch.ones(1)}}, "the wrapper my_network"),
    ],
)
def test_wrappers_and_prefixes_are_taken_off(content: Any, words: str | None) -> None:
    unwrapped = unwrap(content)
    assert unwrapped.state.keys() == STATE.keys()
    assert all(tensor is STATE[key] for key, tensor in unwrapped.state.items())
    assert words is None or str(unwrapped) == words


def test_the_names_of_compiled_parts_and_of_parallel_networks_are_the_plain_ones() -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    names = list(network.state_dict())
    # torch.compile of a part puts its name into the middle of the names.
    compiled = {key.replace("1.", "1._orig_mod."): tensor for key, tensor in nn.DataParallel(network).state_dict().items()}
    assert "module.1._orig_mod.weight" in compiled and list(unwrap(compiled).state) == names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (7, "expected a state dict .* got int"),
        ({}, "it holds no entries"),
        ({"epoch": 3, "optimizer": OPTIMISER}, r"it holds epoch \(int\), optimizer \(dict\)"),
        ({"teacher": STATE, "student": STATE}, "weights in each of teacher, student"),
        (STATE | prefixed("module."), "cls_head.weight twice"),
    ],
)
def test_a_checkpoint_without_one_set_of_weights_is_refused(content: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        unwrap(content)
