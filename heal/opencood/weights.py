"""How HEAL names and lays out the weights in its checkpoints, and how several of them become one.

Its keys are ours behind another prefix: `base.cls_head.bias` is `cls_head.bias` there, `agents.m1.encoder.x` is `encoder_m1.x`.
Only inside the trunks of camera encoders do names differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from heal.agent_model import AgentConfig, AgentModel
from heal.collab_model import CollabModel
from heal.encoders.lift_splat import LiftSplatConfig
from heal.opencood.lift_splat_weights import reference_names

State = dict[str, Tensor]

# Parts of networks that join their agents' boxes late; merging drops them from all checkpoints but the last.
_LATE_PARTS = ("layers_m", "head_m", "shrink_conv_m")


def reference_keys(model: CollabModel) -> dict[str, str]:
    """HEAL's key of every weight of a model, by ours."""
    keys = {f"base.{name}": name for name in model.base.state_dict()}
    for agent, part in model.agents.items():
        assert isinstance(part, AgentModel)
        keys |= {f"agents.{agent}.{name}": key for name, key in _agent_keys(agent, part.config, list(part.state_dict())).items()}
    return keys


def _agent_keys(agent: str, settings: AgentConfig, names: Sequence[str]) -> dict[str, str]:
    encoder = [name.removeprefix("encoder.") for name in names if name.startswith("encoder.")]
    if isinstance(settings.encoder, LiftSplatConfig):
        theirs = reference_names(encoder, settings.encoder.trunk)
    else:
        theirs = {name: name for name in encoder}
    keys = {}
    for name in names:
        part, rest = name.split(".", 1)
        keys[name] = f"{part}_{agent}.{theirs[rest] if part == 'encoder' else rest}"
    return keys


def current_keys(state: Mapping[str, Tensor]) -> State:
    """A HEAL checkpoint with the names that were given up since put right."""
    return {
        key.replace(".model.model.", ".channel_align.model.", 1) if key.startswith("aligner_") else key: tensor
        for key, tensor in state.items()
    }


def merge_states(states: Sequence[Mapping[str, Tensor]]) -> tuple[State, list[str]]:
    """Join the checkpoints of several run folders as HEAL does: what is in more than one comes from the last.

    Returns:
        The joined checkpoint, and the keys on which two of them differ.
    """
    merged: State = {}
    differing: set[str] = set()
    for state in states:
        merged = {key: tensor for key, tensor in merged.items() if not any(part in key for part in _LATE_PARTS)}
        differing |= {key for key, tensor in state.items() if key in merged and not torch.equal(merged[key], tensor)}
        merged |= state
    return merged, sorted(differing)


def with_own_kernels(state: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> State:
    """Turn sparse kernels of spconv 1.x (kz, ky, kx, in, out) into the layout of 2.x and ours (out, kz, ky, kx, in).

    A shape may fit both, so one kernel that fits only the old layout speaks for all of its encoder.

    Args:
        state: under HEAL's names.
        shapes: that each of them should have.
    """
    kernels = {key for key, tensor in state.items() if tensor.ndim == 5 and len(shapes.get(key, ())) == 5}
    old = {key.split(".", 1)[0] for key in kernels if state[key].shape != shapes[key] == _turned(state[key]).shape}
    return {key: _turned(tensor) if key in kernels and key.split(".", 1)[0] in old else tensor for key, tensor in state.items()}


def _turned(kernel: Tensor) -> Tensor:
    return kernel.permute(4, 0, 1, 2, 3).contiguous()
