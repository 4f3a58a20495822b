"""The names and layouts of weights in HEAL's checkpoints, and the merging of several checkpoints.

HEAL's keys differ from ours in the prefix: HEAL's `cls_head.bias` is our `base.cls_head.bias`, `encoder_m1.x` is
`agents.m1.encoder.x`; those of a compressor are equal. In a single-agent detector the base's parts have the type's name too:
`cls_head_m1.bias`. Other names differ only inside the trunks of camera encoders, and for some fusions (`heal.opencood.fusions`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from heal.agent_model import AgentConfig, AgentModel
from heal.collab_model import CollabModel
from heal.encoders.lift_splat import LiftSplatConfig
from heal.opencood.fusions import fusion_key
from heal.opencood.lift_splat_weights import reference_names

State = dict[str, Tensor]

# The layers of a backbone that are a part of their own in HEAL's networks.
_SHRINK = "backbone.shrinker."
# Parts of late-fusion networks; merging keeps them only from the last checkpoint.
_LATE_PARTS = ("layers_m", "head_m", "shrink_conv_m")


def reference_keys(model: CollabModel) -> dict[str, str]:
    """Return HEAL's key of every weight of a model, by our key."""
    keys = {f"base.{name}": key for name, key in _base_keys(model).items()}
    for agent, part in model.agents.items():
        assert isinstance(part, AgentModel)
        keys |= {f"agents.{agent}.{name}": key for name, key in _agent_keys(agent, part.config, list(part.state_dict())).items()}
    return keys | {f"compressor.{name}": f"compressor.{name}" for name in model.compressor.state_dict()}


def _base_keys(model: CollabModel) -> dict[str, str]:
    """Return HEAL's key of every weight of a base; those of a single-agent detector have the name of its agent type."""
    names, settings = list(model.base.state_dict()), model.base.config
    if settings.fusion is not None:
        return {name: fusion_key(settings.fusion.kind, name) for name in names}
    if not settings.pyramid.single_agent:
        return {name: name for name in names}
    (agent,) = model.agents
    parts = {name: name.split(".", 1) for name in names}
    return {name: f"{'layers' if part == 'pyramid_backbone' else part}_{agent}.{rest}" for name, (part, rest) in parts.items()}


def _agent_keys(agent: str, settings: AgentConfig, names: Sequence[str]) -> dict[str, str]:
    """Return HEAL's key of every weight of an agent type, by our name."""
    encoder = [name.removeprefix("encoder.") for name in names if name.startswith("encoder.")]
    if isinstance(settings.encoder, LiftSplatConfig):
        inside = reference_names(encoder, settings.encoder.trunk)
    else:
        inside = {name: name for name in encoder}
    keys = {}
    for name in names:
        part, rest = name.removeprefix("backbone.").split(".", 1) if name.startswith(_SHRINK) else name.split(".", 1)
        keys[name] = f"{part}_{agent}.{inside[rest] if part == 'encoder' else rest}"
    return keys


def current_keys(state: Mapping[str, Tensor]) -> State:
    """Replace names of older HEAL versions in a checkpoint by the current names."""
    return {
        key.replace(".model.model.", ".channel_align.model.", 1) if key.startswith("aligner_") else key: tensor
        for key, tensor in state.items()
    }


def merge_states(states: Sequence[Mapping[str, Tensor]]) -> tuple[State, list[str]]:
    """Merge the checkpoints of several run folders as HEAL does: a key that several contain is taken from the last of them.

    Returns:
        merged: the merged checkpoint.
        differing: the keys for which two checkpoints differ.
    """
    merged: State = {}
    differing: set[str] = set()
    for state in states:
        merged = {key: tensor for key, tensor in merged.items() if not any(part in key for part in _LATE_PARTS)}
        differing |= {key for key, tensor in state.items() if key in merged and not torch.equal(merged[key], tensor)}
        merged |= state
    return merged, sorted(differing)


def with_own_kernels(state: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> State:
    """Permute sparse kernels of spconv 1.x (kz, ky, kx, in, out) into the layout of 2.x, which is ours (out, kz, ky, kx, in).

    A shape may fit both layouts. One kernel that fits only the old layout shows that all kernels of its encoder are in the old one.

    Args:
        state: weights under HEAL's names.
        shapes: the shape that each weight should have.
    """
    kernels = {key for key, tensor in state.items() if tensor.ndim == 5 and len(shapes.get(key, ())) == 5}
    old = {key.split(".", 1)[0] for key in kernels if state[key].shape != shapes[key] == _permuted(state[key]).shape}
    return {key: _permuted(tensor) if key in kernels and key.split(".", 1)[0] in old else tensor for key, tensor in state.items()}


def _permuted(kernel: Tensor) -> Tensor:
    return kernel.permute(4, 0, 1, 2, 3).contiguous()
