"""What HEAL's configuration files say, as our configurations, and back; and how its weights are named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heal.aligner import AlignerConfig
from heal.config import ConfigError, build_config, config

# Our names of an aligner's settings by the reference's.
_ALIGNER_SETTINGS = {"num_of_blocks": "blocks", "num_of_layers": "layers"}


@config
class _AlignerHolder:
    aligner: AlignerConfig


def read_aligner(reference: Mapping[str, Any], channels: int) -> AlignerConfig:
    """An `aligner_args` block, for maps of `channels`; ConfigError for what is not supported."""
    if reference.get("spatial_align"):
        raise ConfigError("aligner_args.spatial_align: expected false, got true; no released network uses it")
    args = dict(reference.get("args") or {})
    dim = args.pop("dim", channels)
    if dim != channels:
        raise ConfigError(f"aligner_args.args.dim: expected {channels}, the backbone's channels, got {dim}")
    values = {"kind": reference["core_method"], **{_ALIGNER_SETTINGS.get(name, name): value for name, value in args.items()}}
    return build_config(_AlignerHolder, {"aligner": values}, "aligner_args").aligner
