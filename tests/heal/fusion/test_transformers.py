"""What only the transformers do: slots and their order, kinds of sensors, the hidden domain, and trust as a weight in attention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from heal.errors import UserError
from heal.fusion.attention import AttentionConfig
from heal.fusion.cobevt import CobevtConfig
from heal.fusion.hmvit import HmVitConfig
from heal.fusion.mpda import Mpda, MpdaConfig
from tests.heal.fusion.test_every_fusion import GRID, NEAR, SMALL, TYPES, V2XVIT, assert_same, fused, made, maps

[COBEVT, HMVIT, MPDA] = [part for part in SMALL if isinstance(part, (CobevtConfig, HmVitConfig, MpdaConfig))]


def test_of_more_agents_than_slots_the_nearest_take_part() -> None:
    # Of the senders, the fourth is 3.2 m away, the second 3.5 m and the third 4.3 m.
    fusion, features = made(replace(COBEVT, slots=3)), maps(4)
    assert_same(fused(fusion, features, NEAR), fused(fusion, features[[0, 1, 3]], NEAR[[0, 1, 3]]))


def test_the_fusion_inside_mpda_knows_where_the_agents_are() -> None:
    fusion, features = made(replace(MPDA, fused_by=replace(COBEVT, slots=3))), maps(4)
    nearest = fused(fusion, features[[0, 1, 3]], NEAR[[0, 1, 3]], agent_types=("m1", "m2", "m3"))
    assert_same(fused(fusion, features, NEAR), nearest)


def test_the_given_order_of_senders_may_matter_as_in_heal() -> None:
    features, order = maps(3), [0, 2, 1]

    def results(settings: CobevtConfig) -> tuple[Tensor, Tensor]:
        return fused(made(settings), features, NEAR[:3]), fused(made(settings), features[order], NEAR[order])

    given, turned = results(replace(COBEVT, order="given"))
    assert float((given - turned).abs().max()) > 1e-3
    nearest, same = results(COBEVT)
    assert_same(nearest, given)
    assert_same(same, given)


@pytest.mark.parametrize("settings", [V2XVIT, HMVIT, MPDA], ids=lambda settings: settings.kind)
def test_a_sender_without_trust_is_as_one_that_is_not_there(settings: Any) -> None:
    fusion, features = made(settings), maps(3)
    without = fused(fusion, features, NEAR[:3], trust=torch.tensor([1.0, 1.0, 0.0]))
    assert_same(without, fused(fusion, features[:2], NEAR[:2]))
    assert float((without - fused(fusion, features, NEAR[:3])).abs().max()) > 1e-3


@pytest.mark.parametrize(("types", "told"), [(("m1", "m9"), "expected one of m1, m2, m3, got 'm9'"), ((), "type is not told")])
def test_hmvit_refuses_types_that_it_was_not_trained_with(types: tuple[str, ...], told: str) -> None:
    with pytest.raises(UserError, match=told):
        fused(made(HMVIT), maps(2), NEAR[:2], agent_types=types)


@pytest.mark.parametrize("settings", [COBEVT, HMVIT, MPDA], ids=lambda settings: settings.kind)
def test_heads_have_to_fit_the_channels(settings: Any) -> None:
    with pytest.raises(UserError, match="divisor of the maps' 16 channels, got 3"):
        made(replace(settings, head_channels=3))


def test_types_of_one_kind_have_the_same_weights() -> None:
    fusion, features = made(HMVIT), maps(2)
    lidars = fused(fusion, features, NEAR[:2], agent_types=("m1", "m3"))
    assert torch.equal(lidars, fused(fusion, features, NEAR[:2], agent_types=("m3", "m1")))
    assert float((lidars - fused(fusion, features, NEAR[:2], agent_types=("m1", "m2"))).abs().max()) > 1e-3


def domain_loss(fusion: Mpda, features: Tensor, types: tuple[str, ...]) -> Tensor | None:
    levels = fusion.trunk(features)
    fusion.fuse_levels(levels, NEAR[: len(features)], (len(features),), agent_types=types)
    return fusion.extra_loss()


def test_the_domain_is_told_apart_only_in_training_and_between_types() -> None:
    fusion = made(MPDA, training=True)
    assert isinstance(fusion, Mpda)
    loss = domain_loss(fusion, maps(3), TYPES[:3])
    assert loss is not None and float(loss.detach()) > 0
    assert fusion.extra_loss() is None, "a loss is told once"
    assert domain_loss(fusion, maps(3), ("m1", "m1", "m1")) is None
    assert domain_loss(fusion, maps(1), ("m1",)) is None
    assert domain_loss(fusion.eval(), maps(3), TYPES[:3]) is None


def test_the_classifier_learns_to_tell_domains_apart_and_the_resizer_to_hide_them() -> None:
    settings = replace(MPDA, layers=0, dropout=0.0)
    fusion = made(settings, training=True)
    assert isinstance(fusion, Mpda)

    def after_a_step(part: torch.nn.Module) -> float:
        """Return by how much the loss falls with a step down the gradient of a part."""
        fusion.zero_grad()
        before = domain_loss(fusion, maps(2), TYPES[:2])
        assert before is not None
        before.backward()
        with torch.no_grad():
            for weight in part.parameters():
                assert weight.grad is not None
                weight -= 1e-2 * weight.grad
            after = domain_loss(fusion, maps(2), TYPES[:2])
            assert after is not None
            return float(before) - float(after)

    assert after_a_step(fusion.classifier) > 0
    assert after_a_step(fusion.resizer) < 0


def test_mpda_takes_any_other_fusion_of_one_scale() -> None:
    alike = made(MpdaConfig(fused_by=AttentionConfig(), layers=0))
    plain = made(AttentionConfig())
    assert isinstance(alike, Mpda)
    torch.nn.init.eye_(alike.resizer.weight)
    torch.nn.init.zeros_(alike.resizer.bias)
    assert_same(fused(alike, maps(3), NEAR[:3]), fused(plain, maps(3), NEAR[:3]))
    with pytest.raises(UserError, match=r"expected a fusion of one scale other than MPDA, got mpda"):
        made(MpdaConfig(fused_by=MPDA, head_channels=8))


def test_without_senders_the_ego_is_not_adapted_to_itself() -> None:
    fusion = made(MpdaConfig(fused_by=AttentionConfig(), head_channels=8))
    assert torch.equal(fused(fusion, maps(1), NEAR[:1]), maps(1))
    assert fusion.out_channels == maps(1).shape[1] and fusion.grid == GRID
