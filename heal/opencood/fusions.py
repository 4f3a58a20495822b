"""HEAL's fusions other than Pyramid Fusion: what they are called in its configurations and checkpoints, and how they are set.

An entry of `METHODS` is all that a fusion of one scale needs to be imported and exported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from heal.config import ConfigError, to_plain
from heal.fusion.table import FusionConfig
from heal.grid import BevGrid
from heal.opencood.blocks import Plain, find_part, leaves, nested, whole_numbers

# HEAL's networks: with Pyramid Fusion; with plain backbones and shrink layers; with scales behind the backbones of Pyramid Fusion.
PYRAMIDS = ("heter_pyramid_collab", "heter_pyramid_single")
PLAIN, SCALES = "heter_model_baseline", "heter_model_baseline_ms"
BASELINES = (PLAIN, SCALES)
# What stands before the names of a fusion's weights in a base, and in HEAL's checkpoints where that differs, by our kind.
_OURS = "fusion_net."
_PREFIXES = {"v2xvit": "fusion_net.fusion_net.", "coalign": "backbone."}


@dataclass(frozen=True)
class Method:
    """How HEAL calls and sets a fusion of one scale.

    Attributes:
        name: HEAL's `fusion_method`, under which the fusion's own block stands in `model.args` too.
        also: other names of the method.
        key: a key by which the block is recognised under another name.
        settings: by HEAL's key in the block, with dots, the name of our setting.
        values: by the name of our setting, HEAL's values and ours where they differ.
        channels: HEAL's keys for the channels of the maps.
        fixed: by HEAL's key, the value that is a constant of our fusion.
        unread: by HEAL's key, the value for a grid; it is written because HEAL needs one, and has no effect.
        compat: our settings that repeat what HEAL does, where our default does otherwise.
    """

    name: str
    also: tuple[str, ...] = ()
    key: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    unread: Mapping[str, Callable[[BevGrid], Any]] = field(default_factory=dict)
    compat: Mapping[str, Any] = field(default_factory=dict)


# By our kind of a fusion.
METHODS = {
    "f_cooper": Method("max"),
    "attfuse": Method("att", channels=("feat_dim",)),
    "disconet": Method("disconet", also=("disco",), channels=("feat_dim",)),
    "v2vnet": Method(
        "v2vnet",
        key="conv_gru",
        settings={"num_iteration": "iterations", "agg_operator": "aggregation"},
        values={"aggregation": {"avg": "mean", "max": "maximum"}},
        channels=("in_channels",),
        fixed={"gru_flag": True, "conv_gru.num_layers": 1, "conv_gru.kernel_size": [[3, 3]]},
        unread={"conv_gru.H": lambda grid: grid.ny, "conv_gru.W": lambda grid: grid.nx},
    ),
    "cobevt": Method(
        "cobevt",
        key="agent_size",
        settings={
            "mlp_dim": "hidden",
            "agent_size": "slots",
            "window_size": "window",
            "dim_head": "head_channels",
            "drop_out": "dropout",
            "depth": "layers",
        },
        channels=("input_dim",),
        compat={"order": "given"},
    ),
    "v2xvit": Method(
        "v2xvit",
        key="encoder",
        settings={
            "encoder.num_blocks": "blocks",
            "encoder.depth": "layers",
            "encoder.cav_att_config.heads": "heads",
            "encoder.cav_att_config.dim_head": "head_channels",
            "encoder.cav_att_config.dropout": "dropout",
            "encoder.pwindow_att_config.heads": "window_heads",
            "encoder.pwindow_att_config.dim_head": "window_head_channels",
            "encoder.pwindow_att_config.window_size": "windows",
            "encoder.pwindow_att_config.dropout": "dropout",
            "encoder.feed_forward.mlp_dim": "hidden",
            "encoder.feed_forward.dropout": "dropout",
        },
        channels=("encoder.cav_att_config.dim", "encoder.pwindow_att_config.dim"),
        fixed={
            "encoder.use_roi_mask": True,
            "encoder.use_RTE": False,
            "encoder.cav_att_config.use_hetero": True,
            "encoder.cav_att_config.use_RTE": False,
            "encoder.pwindow_att_config.relative_pos_embedding": True,
            "encoder.pwindow_att_config.fusion_method": "split_attn",
        },
        unread={
            "encoder.RTE_ratio": lambda grid: 0,
            "encoder.cav_att_config.RTE_ratio": lambda grid: 0,
            "encoder.sttf.voxel_size": lambda grid: [grid.cell_m, grid.cell_m, grid.range_m[5] - grid.range_m[2]],
            "encoder.sttf.downsample_rate": lambda grid: 1,
        },
    ),
}
# HEAL's fusion of every scale of CoAlign, and ours.
_OF_SCALES = {"att": "attention", "max": "maximum"}


def read_fusion(model: str, args: Mapping[str, Any], channels: int) -> Plain:
    """Return the settings of the fusion of HEAL's networks, as `BaseConfig.fusion` takes them.

    Args:
        model: HEAL's name of the networks, one of `BASELINES`.
        args: `model.args`.
        channels: of the agents' maps.

    Raises:
        ConfigError: a fusion or a setting that is not supported.
    """
    name = args["fusion_method"]
    known = tuple(_OF_SCALES) if model == SCALES else tuple(part for each in METHODS.values() for part in (each.name, *each.also))
    if name not in known:
        raise ConfigError(f"model.args.fusion_method: expected one of {', '.join(known)} for {model}, got {name!r}")
    if model == SCALES:
        return {"kind": "coalign", "foreground": False, **_read_scales(args)}
    kind, method = next((kind, method) for kind, method in METHODS.items() if name in (method.name, *method.also))
    return {"kind": kind, "foreground": False, **method.compat, **_read_settings(method, _block(method, args), channels)}


def write_fusion(settings: FusionConfig, channels: int, grid: BevGrid) -> tuple[str, Plain]:
    """Return HEAL's name of the networks with a fusion, and the fusion's blocks in `model.args`.

    Args:
        settings: settings of the fusion.
        channels: of the agents' maps.
        grid: grid of the maps.

    Raises:
        ConfigError: HEAL does not have the fusion.
    """
    ours = to_plain(settings)
    if settings.kind == "coalign":
        return SCALES, _write_scales(ours, channels)
    method = METHODS.get(settings.kind)
    if method is None:
        known = ", ".join((*METHODS, "coalign"))
        raise ConfigError(f"HEAL has no fusion {settings.kind!r}, only Pyramid Fusion, {known}; this base cannot be exported")
    values = {
        **dict.fromkeys(method.channels, channels),
        **method.fixed,
        **{key: of(grid) for key, of in method.unread.items()},
        **{key: _translated(ours[name], _inverse(method.values.get(name, {}))) for key, name in method.settings.items()},
    }
    return PLAIN, {"fusion_method": method.name, **({method.name: nested(values)} if values else {})}


def fusion_key(kind: str, name: str) -> str:
    """Return HEAL's key of a weight of a base whose fusion is of a kind, by our name of the weight in the base."""
    return _PREFIXES.get(kind, _OURS) + name.removeprefix(_OURS) if name.startswith(_OURS) else name


def _block(method: Method, args: Mapping[str, Any]) -> Plain:
    """Return the block of a fusion's settings, which another block of the same name may enclose; empty if there is none."""
    own: Mapping[str, Any] = next((args[name] for name in (method.name, *method.also) if isinstance(args.get(name), Mapping)), {})
    if not method.key or method.key in own:
        return dict(own)
    return find_part([own, args], method.name, method.key) or {}


def _read_settings(method: Method, block: Mapping[str, Any], channels: int) -> Plain:
    """Return our settings of a block; ConfigError for a value that is not that of our fusion."""
    given = dict(leaves(block))
    for key, expected in {**dict.fromkeys(method.channels, channels), **method.fixed}.items():
        if given.get(key, expected) != expected:
            raise ConfigError(f"model.args.{method.name}.{key}: expected {expected}, got {given[key]}; it is not supported")
    return {name: _translated(given[key], method.values.get(name, {})) for key, name in method.settings.items() if key in given}


def _translated(value: Any, values: Mapping[str, str]) -> Any:
    """Return the other name of a value, or the value itself if it has no other name."""
    return values.get(value, value) if isinstance(value, str) else value


def _inverse(values: Mapping[str, str]) -> dict[str, str]:
    return {value: key for key, value in values.items()}


def _read_scales(args: Mapping[str, Any]) -> Plain:
    """Return the settings of CoAlign's scales; ConfigError for a block that is not supported."""
    block, method = find_part([args], "fusion_backbone", "layer_nums"), args["fusion_method"]
    if block is None or block.get("resnext"):
        raise ConfigError(f"model.args: expected a block fusion_backbone with layer_nums, and resnext false, got {block}")
    widths: Any = (args.get(method) or {}).get("feat_dim", block["num_filters"])
    if widths != block["num_filters"]:
        raise ConfigError(f"model.args.{method}.feat_dim: expected the channels of the scales {block['num_filters']}, got {widths}")
    return {
        "blocks": block["layer_nums"],
        # Nothing goes through the first stage, so its stride has no effect.
        "strides": [1, *block["layer_strides"][1:]],
        "channels": block["num_filters"],
        "upsample_strides": block["upsample_strides"],
        "upsample_channels": block["num_upsample_filter"],
        "method": _OF_SCALES[method],
    }


def _write_scales(ours: Plain, channels: int) -> Plain:
    """Return the blocks of CoAlign's scales."""
    method = _inverse(_OF_SCALES)[ours["method"]]
    backbone = {
        "resnext": False,
        "layer_nums": ours["blocks"],
        "layer_strides": ours["strides"],
        "num_filters": ours["channels"],
        "upsample_strides": whole_numbers(ours["upsample_strides"]),
        "num_upsample_filter": ours["upsample_channels"],
        "inplanes": channels,
    }
    block = {method: {"feat_dim": ours["channels"]}} if method == "att" else {}
    return {"fusion_method": method, **block, "fusion_backbone": backbone}
