"""A setting that `--set` names wrongly is answered by the key or the option that is meant."""

from __future__ import annotations

import pytest
import torch

from heal.config import ConfigError, build_config
from heal.errors import UserError
from heal.tools.shared.run_settings import RunSettings, read_settings, with_options, with_own_device
from heal.training.config import TrainingConfig


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "codec=int8",
            r"^--set codec=int8: run.codec is a section; give --codec int8 to `heal simulate`, or .*run.codec.values=int8$",
        ),
        ("run.codec=int8,zstd", r"^--set run.codec=int8,zstd: run.codec is a section; give --codec int8,zstd to"),
        ("deployment.faults=crash:node@5", r"give --fault crash:node@5 to `heal simulate`, or set a list"),
        ("seed=3", "^--set seed=3: seed is not a setting but an option; give --seed 3 instead$"),
        ("comm_range_m=3", r"comm_range_m: unknown key here; did you mean 'run.comm_range_m'\?$"),
        ("run.link=dsrc", r"run.link: unknown key here; did you mean 'link'\?$"),
        ("run.splt=pyramid", r"run.splt: unknown key; did you mean 'split'\?$"),
        ("run=int8", r"run: expected a section with keys of its own \(agents, comm_range_m, .*\), got 'int8'$"),
    ],
)
def test_a_wrong_setting_is_answered_by_the_right_one(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_settings(None, [text])


def test_what_an_error_names_is_taken() -> None:
    settings = read_settings(
        None,
        [
            "run.codec.values=int8",
            "run.comm_range_m=3",
            "link=dsrc",
            "deployment.faults=[{kind: crash, who: node, tick: 5}]",
            "deployment.fusion_nodes=1",
        ],
    )
    assert (settings.run.codec.values, settings.run.comm_range_m, settings.link) == ("int8", 3, "dsrc")
    [fault] = settings.deployment.faults
    assert (fault.kind, fault.node, fault.tick) == ("crash", 0, 5)
    assert read_settings(None, ["run.codec={values: int4}"]).run.codec.values == "int4"


def test_a_key_of_a_section_in_lists_and_mappings_has_no_place_of_its_own() -> None:
    """`tick` is a key of each planned fault in a list: there is no single place to name."""
    with pytest.raises(ConfigError, match="tick: unknown key; known keys: "):
        build_config(RunSettings, {"tick": 3})
    with pytest.raises(ConfigError, match=r"epochs: unknown key here; did you mean 'training.epochs'\?"):
        build_config(TrainingConfig, {"epochs": 3})


def test_auto_becomes_the_device_of_this_machine_but_not_on_a_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = with_options(read_settings(None, ["deployment.device=cuda:1"]), {"device": "auto", "address": None})
    assert asked.deployment.device == "auto" and with_own_device(asked).deployment.device == "cpu"
    assert with_options(read_settings(None, ["deployment.device=cuda:1"]), {"device": None}).deployment.device == "cuda:1"
    on_cluster = with_options(asked, {"address": "head:6379"})
    assert with_own_device(on_cluster) == on_cluster
    with pytest.raises(UserError, match="--device cuda: torch finds no GPU"):
        with_own_device(with_options(asked, {"device": "cuda"}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert with_own_device(asked).deployment.device == "cuda"
    with pytest.raises(ValueError, match="device: expected auto, cpu, cuda or cuda:N, got 'tpu'"):
        read_settings(None, ["deployment.device=tpu"])
