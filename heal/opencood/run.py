"""A HEAL run, that is its configuration and a checkpoint, as our configurations and weights, and back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from heal.agent_model import AgentConfig, AgentModel
from heal.base_model import BaseConfig, BaseModel
from heal.collab_model import CollabModel
from heal.config import ConfigError
from heal.opencood.config import Networks, read_config
from heal.opencood.weights import State, current_keys, reference_keys, with_own_kernels

# Channels of a point that LiDAR networks take in: x, y, z, intensity.
_POINT_CHANNELS = 4
_FIRST_SPARSE_KERNEL = "spconv_block.conv_input.0.weight"


@dataclass(frozen=True)
class ImportedRun:
    """A HEAL run under our names.

    Attributes:
        base: configuration of the base.
        agents: of every agent type in the run.
        base_state: weights of the base.
        agent_states: weights of every agent type.
        dropped: keys of the checkpoint that no network of ours reads.
    """

    base: BaseConfig
    agents: dict[str, AgentConfig]
    base_state: State
    agent_states: dict[str, State]
    dropped: tuple[str, ...]


def import_state(reference: Mapping[str, Any], state: Mapping[str, Tensor], types: Collection[str] | None = None) -> ImportedRun:
    """Read a run.

    Args:
        reference: its config.yaml; `model` is needed, `postprocess` and `heter` are read where they are.
        state: its checkpoint.
        types: read these agent types only; all by default.

    Raises:
        ConfigError: networks that are not supported, or weights that do not fit them.
    """
    networks, state = read_config(reference, types), current_keys(state)
    _require_point_channels(
        {key: tensor for key, tensor in state.items() if key.startswith(tuple(f"encoder_{name}." for name in networks.agents))}
    )
    model = make_networks(networks)
    theirs = reference_keys(model)
    shapes = {theirs[name]: tensor.shape for name, tensor in model.state_dict().items()}
    _require_all(set(shapes), set(state))
    turned = with_own_kernels({key: state[key] for key in shapes}, shapes)
    _require_shapes(shapes, turned)
    own = {name: turned[key] for name, key in theirs.items()}
    return ImportedRun(
        networks.base,
        networks.agents,
        _below("base.", own),
        {name: _below(f"agents.{name}.", own) for name in networks.agents},
        tuple(sorted(set(state) - set(shapes))),
    )


def export_state(model: CollabModel) -> State:
    """A model's weights as HEAL names and lays them out, with the sparse kernels of spconv 2.x."""
    theirs = reference_keys(model)
    return {theirs[name]: tensor for name, tensor in model.state_dict().items()}


def make_networks(networks: Networks) -> CollabModel:
    """The networks without weights: names and shapes alone."""
    with torch.device("meta"):
        base = BaseModel(networks.base)
        return CollabModel(base, {name: AgentModel(agent, networks.base.grid) for name, agent in networks.agents.items()})


def _below(prefix: str, state: State) -> State:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _require_point_channels(state: State) -> None:
    for key, kernel in state.items():
        # In both layouts of spconv a wrong number of input channels is larger than any edge of the kernel.
        if key.endswith(_FIRST_SPARSE_KERNEL) and kernel.ndim == 5 and _POINT_CHANNELS not in kernel.shape[3:]:
            raise ConfigError(
                f"{key} has the shape {tuple(kernel.shape)}, but a point has {_POINT_CHANNELS} channels. Checkpoints with 64 were "
                "trained by a wrong setting (spconv.num_features_in), which spconv 1.x did not notice: it read beyond the points' "
                "channels, so what they compute is undefined and cannot be repeated. Import the other types with --types, "
                "and train this one anew"
            )


def _require_all(wanted: set[str], found: set[str]) -> None:
    missing = sorted(wanted - found)
    if missing:
        raise ConfigError(
            f"the checkpoint lacks {len(missing)} of the {len(wanted)} weights that config.yaml asks for, such as "
            f"{', '.join(missing[:3])}; is the checkpoint from another run, or of a stage that trains another type?"
        )


def _require_shapes(shapes: Mapping[str, torch.Size], state: State) -> None:
    wrong = [key for key, shape in shapes.items() if state[key].shape != shape]
    if wrong:
        key = wrong[0]
        raise ConfigError(
            f"{len(wrong)} weights of the checkpoint do not fit config.yaml: {key} should have the shape {tuple(shapes[key])}, "
            f"it has {tuple(state[key].shape)}"
        )
