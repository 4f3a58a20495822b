"""Convert a HEAL run, a configuration with a checkpoint, to configurations and weights of this package, and back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from heal.agent_model import AgentConfig, AgentModel
from heal.base_model import BaseConfig, BaseModel
from heal.collab_model import CollabModel
from heal.config import ConfigError
from heal.layers.compressor import Compressor, CompressorConfig
from heal.opencood.config import Networks, read_config
from heal.opencood.fusions import METHODS
from heal.opencood.weights import State, current_keys, reference_keys, with_own_kernels

# Input channels of LiDAR networks: x, y, z, intensity of a point.
_POINT_CHANNELS = 4
_FIRST_SPARSE_KERNEL = "spconv_block.conv_input.0.weight"
# What the keys of one of the layers begin with that HEAL's networks with single heads have.
_SINGLE_HEADS = "cls_head_single."


@dataclass(frozen=True)
class ImportedRun:
    """A HEAL run as configurations and weights of this package.

    Attributes:
        base: configuration of the base.
        agents: configuration of every agent type in the run.
        base_state: weights of the base.
        agent_states: weights of every agent type.
        dropped: keys of the checkpoint that our networks do not have.
        taken_off: wrappers and prefixes that were around the weights, in words; empty if there were none.
        compressor: configuration of the compressor of maps; None if the run has none.
        compressor_state: its weights.
    """

    base: BaseConfig
    agents: dict[str, AgentConfig]
    base_state: State
    agent_states: dict[str, State]
    dropped: tuple[str, ...]
    taken_off: str = ""
    compressor: CompressorConfig | None = None
    compressor_state: State = field(default_factory=dict)


def import_state(reference: Mapping[str, Any], state: Mapping[str, Tensor], types: Collection[str] | None = None) -> ImportedRun:
    """Convert a HEAL run.

    Args:
        reference: the content of its config.yaml; `model` is required, `postprocess` and `heter` are optional.
        state: the content of its checkpoint.
        types: agent types to read; all by default.

    Raises:
        ConfigError: the networks are not supported, or the weights do not fit the networks or are not finite.
    """
    return convert_state(read_config(reference, types), current_keys(state))


def convert_state(networks: Networks, state: State) -> ImportedRun:
    """Convert the weights of networks whose configurations are read already; `state` has the current names. Errors as above."""
    _require_point_channels(
        {key: tensor for key, tensor in state.items() if key.startswith(tuple(f"encoder_{name}." for name in networks.agents))}
    )
    networks = _with_stored_heads(networks, state)
    model = make_networks(networks)
    heal_keys = reference_keys(model)
    shapes = {heal_keys[name]: tensor.shape for name, tensor in model.state_dict().items()}
    _require_all(set(shapes), set(state))
    permuted = with_own_kernels({key: state[key] for key in shapes}, shapes)
    _require_shapes(shapes, permuted)
    _require_finite(permuted)
    own = {name: permuted[key] for name, key in heal_keys.items()}
    return ImportedRun(
        networks.base,
        networks.agents,
        _strip_prefix("base.", own),
        {name: _strip_prefix(f"agents.{name}.", own) for name in networks.agents},
        tuple(sorted(set(state) - set(shapes))),
        compressor=networks.compressor,
        compressor_state=_strip_prefix("compressor.", own),
    )


def export_state(model: CollabModel) -> State:
    """Return a model's weights under HEAL's names, with sparse kernels in the layout of spconv 2.x."""
    heal_keys = reference_keys(model)
    return {heal_keys[name]: tensor for name, tensor in model.state_dict().items()}


def make_networks(networks: Networks) -> CollabModel:
    """Make the networks without memory for weights (torch's meta device), for the names and shapes of their weights."""
    with torch.device("meta"):
        base = BaseModel(networks.base)
        agents = {name: AgentModel(agent, networks.base.grid) for name, agent in networks.agents.items()}
        return CollabModel(base, agents, None if networks.compressor is None else Compressor(networks.compressor))


def _with_stored_heads(networks: Networks, state: State) -> Networks:
    """Return the networks with single heads if the checkpoint has them, whatever the configuration says, and without otherwise."""
    fusion = networks.base.fusion
    if fusion is None or fusion.kind not in METHODS:
        return networks
    return replace(networks, base=replace(networks.base, single_heads=any(key.startswith(_SINGLE_HEADS) for key in state)))


def _strip_prefix(prefix: str, state: State) -> State:
    """Return the weights whose names begin with a prefix, without the prefix."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _require_point_channels(state: State) -> None:
    """Raise ConfigError for a sparse encoder that was trained with a wrong number of input channels."""
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


def _require_finite(state: State) -> None:
    """Raise ConfigError for weights that are not finite: a network with such weights detects nothing."""
    wrong = [key for key, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if wrong:
        raise ConfigError(
            f"{len(wrong)} weights of the checkpoint are not finite, first {wrong[0]}, as after a training that diverged; "
            "import a checkpoint of an earlier epoch"
        )
