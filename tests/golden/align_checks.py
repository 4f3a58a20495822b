"""Aligners and the compressor give the reference's recorded outputs with the recorded weights."""

from __future__ import annotations

import torch

from heal.aligners.aligner import Aligner
from heal.layers.compressor import Compressor, CompressorConfig
from heal.opencood.agents import read_aligner
from tests.golden.fixture import Fixture, assert_close


def check_aligner(fixture: Fixture) -> None:
    x = fixture.tensor("x")
    model = Aligner(read_aligner(fixture.config, x.shape[1]), x.shape[1])
    fixture.load_weights(model)
    assert set(fixture.names("w/")) == set(model.state_dict())
    with torch.no_grad():
        assert_close(model.eval()(x), fixture.expected("y"))


def check_compressor(fixture: Fixture) -> None:
    model = Compressor(CompressorConfig(channels=fixture.config["input_dim"], ratio=fixture.config["compress_ratio"]))
    fixture.load_weights(model)
    assert set(fixture.names("w/")) == set(model.state_dict())
    with torch.no_grad():
        assert_close(model.eval()(fixture.tensor("x")), fixture.expected("y"))
