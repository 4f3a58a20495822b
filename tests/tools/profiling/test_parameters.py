"""Parameters: the paper's configurations have the paper's sizes, and what a table calls trained is what a training trains."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from heal.agent_model import AgentModel
from heal.base_model import BaseModel
from heal.collab_model import CollabModel
from heal.tools.profiling.networks import Networks
from heal.tools.profiling.parameters import AgentParameters, BaseParameters, are_the_papers, growth, parameters_of
from heal.tools.profiling.sheets import Sheet
from heal.tools.shared.paths import config_path
from heal.tools.training.settings import resolve_settings
from heal.training.step import make_optimizer, set_learning
from tests.heal.networks import AGENT, BASE, GRID, SECOND
from tests.tools.training.small_training import SETTINGS


def shipped(base: str, types: str) -> Networks:
    """Return shipped configurations as networks without memory for their weights."""
    with torch.device("meta"):
        return Networks.of_settings(base, resolve_settings(config_path(base), None, []), types)


def small() -> CollabModel:
    return CollabModel(
        BaseModel(BASE), {"m1": AgentModel(AGENT, GRID), "m3": AgentModel(SECOND, GRID), "m9": AgentModel(AGENT, GRID)}
    )


def test_the_papers_alliance_grows_as_published() -> None:
    steps = growth(shipped("base.yaml", "m2,m3,m4").model)
    assert [step.name for step in steps] == ["m1", "m2", "m3", "m4"]
    assert [step.network for step in steps] == [5_464_791, 20_250_219, 6_313_879, 7_149_639]
    assert [step.trained for step in steps] == [5_464_791, 15_012_372, 1_076_032, 1_911_792]
    assert [step.aligned for step in steps] == [0, 15_012_372, 16_088_404, 18_000_196]
    assert [step.in_all for step in steps] == [5_464_791, 20_477_163, 21_553_195, 23_464_987]
    # "7.15 M" is the published number of trained parameters when three types have joined.
    assert round(steps[-1].network / 1e6, 2) == 7.15 and are_the_papers(steps)


def test_the_papers_alliance_on_dair() -> None:
    steps = growth(shipped("dair.yaml", "dair_m2").model)
    assert steps[-1].in_all == 20_502_813 and not are_the_papers(steps)


def test_the_parts_of_the_papers_networks() -> None:
    model = shipped("base.yaml", "m2,m3,m4").model
    assert BaseParameters.of(model.base) == BaseParameters(3_757_635, 1_475_072, 514 + 3_598 + 1_028)
    assert [AgentParameters.of(name, model.agent(name)) for name in model.agents] == [
        AgentParameters("m1", 768, 226_176, 0),
        AgentParameters("m2", 14_635_796, 267_136, 109_440),
        AgentParameters("m3", 699_456, 267_136, 109_440),
        AgentParameters("m4", 1_535_216, 267_136, 109_440),
    ]


def test_every_parameter_of_an_alliance_is_trained_once() -> None:
    model = small()
    base, own = parameters_of(model.base), [parameters_of(model.agent(name)) for name in ("m1", "m3", "m9")]
    steps = growth(model)
    assert [step.trained for step in steps] == [base + own[0], own[1], own[2]]
    assert [step.network for step in steps] == [base + part for part in own]
    assert [step.aligned for step in steps] == [0, own[1], own[1] + own[2]]
    assert [step.in_all for step in steps] == [base + own[0], base + own[0] + own[1], parameters_of(model)]
    assert sum(step.trained for step in steps) == parameters_of(model)


@pytest.mark.parametrize("place", [0, 1])
def test_trained_is_what_the_optimiser_of_the_training_has(place: int) -> None:
    model, step = small(), growth(small())[place]
    training = replace(SETTINGS.training, frozen_base=place > 0)
    trained = CollabModel(model.base, {step.name: model.agent(step.name)})
    set_learning(trained, training)
    groups = make_optimizer(trained, training).param_groups
    assert sum(parameter.numel() for group in groups for parameter in group["params"]) == step.trained


def test_the_heads_on_single_agents_are_counted_with_the_heads() -> None:
    base, both = BaseModel(BASE), BaseModel(replace(BASE, single_heads=True))
    found, plain = BaseParameters.of(both), BaseParameters.of(base)
    assert found == replace(plain, heads=plain.heads + (2 + 14 + 4) * (BASE.in_channels + 1))
    assert found.fusion + found.shrink + found.heads == parameters_of(both)


def test_a_sheet_in_markdown_has_all_cells() -> None:
    sheet = Sheet("Costs", ("type", "in all"), (("m1", "1,000"), ("m2", "20")), "A note.")
    assert sheet.markdown() == "## Costs\n\n| type | in all |\n| --- | ---: |\n| m1 | 1,000 |\n| m2 | 20 |\n\nA note.\n"
