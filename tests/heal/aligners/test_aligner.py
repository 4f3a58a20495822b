"""Aligners: shapes, state before training, state-dict names, and settings that are refused."""

import pytest
import torch

from heal.agent_model import AgentConfig
from heal.aligners.aligner import ALIGNERS, Aligner, AlignerConfig, IdentityAlignerConfig
from heal.aligners.convnext import ConvNextAlignerConfig, SdtaAlignerConfig
from heal.aligners.fanet import FanetAlignerConfig
from heal.aligners.residual import CbamAlignerConfig, CellAlignerConfig, ResidualAlignerConfig
from heal.config import ConfigError, build_config, to_plain


def _config(kind: str) -> AlignerConfig:
    return build_config(AgentConfig, {"aligner": {"kind": kind}}).aligner


@pytest.mark.parametrize("kind", sorted(ALIGNERS))
def test_every_kind_keeps_the_shape_of_odd_maps_and_equals_itself_after_a_file(kind: str) -> None:
    settings = _config(kind)
    assert settings.kind == kind
    assert build_config(AgentConfig, to_plain(AgentConfig(aligner=settings))).aligner == settings
    x = torch.rand(2, 16, 9, 13)
    assert Aligner(settings, 16)(x).shape == x.shape


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        ("convnext", "model.0.gamma"),
        ("sdta", "model.0.gamma"),
        ("resnet1x1", "model.0.conv1.weight"),
        ("resnet3x3", "model.0.conv1.weight"),
        ("cbam", "model.0.conv1.weight"),
        ("scaligner", "backbone.0.model.0.weight"),
        ("fanet", "falayer1.conv1.weight"),
    ],
)
def test_parameters_have_the_names_of_heals_checkpoints(kind: str, first: str) -> None:
    assert next(iter(Aligner(_config(kind), 16).state_dict())) == f"channel_align.{first}"


def test_the_papers_aligner_has_its_size_and_starts_as_almost_the_identity() -> None:
    torch.manual_seed(0)
    aligner, x = Aligner(ConvNextAlignerConfig(), 64), torch.rand(1, 64, 8, 8)
    assert sum(weight.numel() for weight in aligner.parameters()) == 109_440
    torch.testing.assert_close(aligner(x), x, rtol=0, atol=1e-4)


@pytest.mark.parametrize("settings", [CellAlignerConfig(), SdtaAlignerConfig(), ResidualAlignerConfig(kind="resnet1x1")])
def test_aligners_that_work_per_cell_do_not_depend_on_the_order_of_cells(settings: AlignerConfig) -> None:
    torch.manual_seed(0)
    aligner, x, order = Aligner(settings, 16).eval(), torch.rand(1, 16, 1, 30), torch.randperm(30)
    torch.testing.assert_close(aligner(x[..., order]), aligner(x)[..., order])


def test_no_gradient_comes_back_through_the_condition() -> None:
    torch.manual_seed(0)
    aligner, x = Aligner(FanetAlignerConfig(), 8), torch.rand(1, 8, 4, 4, requires_grad=True)
    with torch.no_grad():
        # These weights are the only way of the map into the network besides the condition.
        for name, weight in aligner.named_parameters():
            if "falayer1.arblock.model.0.weight" in name:
                weight.zero_()
    aligner(x).sum().backward()
    assert x.grad is not None and not x.grad.any()


def test_the_identity_returns_the_same_object() -> None:
    x = torch.rand(1, 4, 2, 2)
    assert Aligner(IdentityAlignerConfig(), 4)(x) is x


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SdtaAlignerConfig(heads=5), "12 channels cannot be shared by 5 heads"),
        (CbamAlignerConfig(), "12 channels cannot be reduced 16 times"),
        (FanetAlignerConfig(), "multiple of 8 channels, got 12"),
    ],
)
def test_unsuitable_numbers_of_channels_are_refused(settings: AlignerConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Aligner(settings, 12)


def test_the_error_for_an_unknown_kind_names_the_known_kinds() -> None:
    with pytest.raises(
        ConfigError, match=r"aligner: expected one of the kinds identity, convnext, .*, got 'convext'; did you mean 'convnext'\?"
    ):
        _config("convext")


def test_a_key_of_another_kind_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"aligner\.convnext\.heads: unknown key"):
        build_config(AgentConfig, {"aligner": {"kind": "convnext", "heads": 4}})
