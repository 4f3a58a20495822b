"""The conditions of a sweep: one run over the same ticks for each, with its point in the figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from heal.agent_types import MAX_AGENTS
from heal.agents.options import LATE_POLICIES, PoseCorrection, RunOptions
from heal.alliance import Alliance
from heal.errors import UserError
from heal.message.codec import Codec
from heal.tools.shared.lines import lidar_lines_of
from heal.tools.shared.type_argument import named_types
from heal.tools.sweeps.lies import LIES, TOGETHER, lies_of
from heal.tools.sweeps.lying import ABSENT, Liars
from heal.types import BEAMS, MAP_SPLITS

ALONE = "ego alone"
DEFENCES: Mapping[str, Literal["on", "off"]] = {"undefended": "off", "defended": "on"}
DELAYS_MS = (0, 100, 150, 200, 250, 300, 400, 500)
LOSSES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
NOISES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
REGIONS_M = (25.6, 51.2, 72.0)
RANGE_STEPS = 5  # ranges of communication, evenly spaced up to that of the run
# Number format and byte budget of a message, the budget as a divisor of a float32 feature map. Large budgets have room for fine
# numbers; under small ones, coarse numbers leave room for more cells.
BUDGETS = (("int8", 10), ("int8", 25), ("int4", 50), ("int4", 100), ("int4", 250), ("int4", 500))
WHOLE_CODECS = ("float32", "float16", "int8", "int8,zstd", "int4,zstd")

AUTOENCODERS = {"autoencoder": Codec("float32"), "autoencoder, int8,zstd": Codec("int8", zstd=True)}


@dataclass(frozen=True)
class Condition:
    """One run of a sweep.

    Attributes:
        series: label of the line in the figure that the run is a point of.
        x: position of the point on the x axis; None if it is measured, like the bytes of a message.
        name: label of the run in the table.
        options: of the run.
        link: description of the links, as for `--link`.
        noise: description of the errors of poses, as for `--noise`.
        liars: which senders lie, and how; None for no one.
    """

    series: str
    x: float | None
    name: str
    options: RunOptions
    link: str = "perfect"
    noise: str = "none"
    liars: Liars | None = None


@dataclass(frozen=True)
class Common:
    """What the conditions of a sweep have in common.

    Attributes:
        options: values of the options that the sweep does not vary.
        float32_bytes: size of an uncoded feature map, from which the byte budgets are derived.
        types: the agent types in the order of the agents, the ego's first; empty if there is no such order.
        lidar_lines: laser lines of the clouds that each type with a LiDAR reads where the sweep does not vary them.
        ratios: of the alliance's compressors, which a sweep of codecs shows beside them.
    """

    options: RunOptions
    float32_bytes: int
    types: tuple[str, ...] = ()
    lidar_lines: Mapping[str, int] = field(default_factory=dict)
    ratios: tuple[int, ...] = ()

    @staticmethod
    def of(alliance: Alliance, options: RunOptions, types: str | None) -> Common:
        """Describe the runs of an alliance whose agents have the types that `--types` gives them."""
        base, used = alliance.base.config, named_types(types, alliance)
        size, in_order = 4 * base.in_channels * base.grid.ny * base.grid.nx, not (types and types.endswith(".json"))
        order, lines = tuple(used) if in_order else (), lidar_lines_of(alliance, options, used)
        return Common(options, size, order, lines, tuple(alliance.compressors))


HONEST = (
    Condition("", None, "honest", RunOptions()),
    Condition("", None, "poses 0.3 m off", RunOptions(), noise="position:0.3"),
    Condition("", None, "200 ms late", RunOptions(), link="delay:200"),
)
"""Honest senders beside the attacks, also with errors of poses and with late messages, which a defence must not take for lies."""


def sweep_conditions(kind: str, common: Common) -> tuple[Condition, ...]:
    """Return the conditions of a sweep; the first is the ego alone.

    Raises:
        UserError: there is no such kind of sweep, or nothing that it could vary.
    """
    if kind not in KINDS:
        raise UserError(f"unknown sweep {kind!r}; expected one of {', '.join(KINDS)}")
    alone = Condition(ALONE, None, ALONE, replace(common.options, agents=1))
    return alone, *KINDS[kind](common)


def _codecs(common: Common) -> list[Condition]:
    budgets = [f"{values},zstd,budget:{common.float32_bytes // divisor}" for values, divisor in BUDGETS]
    own = [
        Condition(split, None, f"{split}: {codec}", replace(common.options, split=split, codec=Codec.parse(codec)))
        for split in MAP_SPLITS
        for codec in (*WHOLE_CODECS, *budgets)
    ]
    return [*own, *_autoencoders(common)]


def _autoencoders(common: Common) -> list[Condition]:
    """Return runs for each compressor, whose maps are written as the paper counts them, and as our codecs write them."""
    runs = {series: [replace(codec, ae_ratio=ratio) for ratio in common.ratios] for series, codec in AUTOENCODERS.items()}
    return [
        Condition(series, None, f"feature: {codec}", replace(common.options, split="feature", codec=codec))
        for series, codecs in runs.items()
        for codec in codecs
    ]


def _delays(common: Common) -> list[Condition]:
    return [
        Condition(late, delay_ms, f"{late}, {delay_ms} ms", replace(common.options, late=late), link=f"delay:{delay_ms}")
        for late in LATE_POLICIES
        for delay_ms in DELAYS_MS
    ]


def _losses(common: Common) -> list[Condition]:
    return [
        Condition(late, loss, f"{late}, {loss:.0%} lost", replace(common.options, late=late), link=f"loss:{loss}")
        for late in LATE_POLICIES
        for loss in LOSSES
    ]


def _noises(common: Common) -> list[Condition]:
    """Return each noise with and without the corrections of poses, so that their share in the result is seen."""
    corrections: Mapping[str, PoseCorrection] = {"": "peaks", ", by boxes": "boxes", ", not corrected": "off"}
    runs = {suffix: replace(common.options, correct_poses=correct) for suffix, correct in corrections.items()}
    return [
        Condition(kind + suffix, size, f"{kind}{suffix}, {size} m / deg", run, noise=f"position:{size},rotation:{size},kind:{kind}")
        for kind in ("gaussian", "laplace")
        for suffix, run in runs.items()
        for size in NOISES
    ]


def _regions(common: Common) -> list[Condition]:
    options = common.options
    single_node = Condition("one node", 0.0, "one node", options)
    regions = [Condition("regions", edge_m, f"regions of {edge_m:g} m", replace(options, region_m=edge_m)) for edge_m in REGIONS_M]
    return [single_node, *regions]


def _attacks(common: Common) -> list[Condition]:
    """Return honest senders, with errors of poses and late messages too, and lies of one and of two, without and with a defence."""
    split = common.options.split
    if split not in MAP_SPLITS:
        raise UserError(f"sweep attacks: expected maps to lie by, split={' or '.join(MAP_SPLITS)}, got split={split}")
    runs = [
        *HONEST,
        *(Condition("", None, f"{lie}, one", common.options, liars=Liars(lie, 1)) for lie in (ABSENT, *lies_of(LIES, split))),
        *(Condition("", None, f"{lie}, two", common.options, liars=Liars(lie, 2)) for lie in (ABSENT, *lies_of(TOGETHER, split))),
    ]
    return [
        replace(run, series=series, x=place, name=f"{run.name}, {series}", options=_switched(common.options, switch))
        for series, switch in DEFENCES.items()
        for place, run in enumerate(runs)
    ]


def _switched(options: RunOptions, switch: Literal["on", "off"]) -> RunOptions:
    return replace(options, guard=switch, defence=switch)


def _ranges(common: Common) -> list[Condition]:
    """Return ranges of communication up to that of the run, whose ground truth all of them have."""
    options = common.options
    ranges_m = [options.comm_range_m * step / RANGE_STEPS for step in range(1, RANGE_STEPS + 1)]
    runs = [replace(options, comm_range_m=range_m, labels_range_m=options.truth_range_m) for range_m in ranges_m]
    return [Condition("fused", run.comm_range_m, f"range of {run.comm_range_m:g} m", run) for run in runs]


def _agents(common: Common) -> list[Condition]:
    """Return growing numbers of agents: up to that of the run, or one of each type, or as many as in HEAL's evaluation."""
    types = common.types if len(common.types) > 1 else ()
    counts = range(1, (common.options.agents or len(types) or MAX_AGENTS) + 1)
    names = {count: " + ".join(types[:count]) if count <= len(types) else _count_text(count) for count in counts}
    return [Condition("fused", count, name, replace(common.options, agents=count)) for count, name in names.items()]


def _count_text(agents: int) -> str:
    return f"{agents} agent{'s' if agents > 1 else ''}"


def _lines(common: Common) -> list[Condition]:
    """Return the LiDARs as they are, and with half as many laser lines again and again, until all have the fewest."""
    if not common.lidar_lines:
        raise UserError("sweep lines: expected agents with a LiDAR, and no agent type of the run has one; see --types")
    steps = [common.lidar_lines]
    while set(steps[-1].values()) != {BEAMS[0]}:
        steps.append({name: max(lines // 2, BEAMS[0]) for name, lines in steps[-1].items()})
    names = [", ".join(f"{name}={lines}" for name, lines in step.items()) for step in steps]
    runs = [replace(common.options, lidar_lines=step) for step in steps]
    return [Condition("fused", place, name, run) for place, (name, run) in enumerate(zip(names, runs, strict=True))]


KINDS: Mapping[str, Callable[[Common], list[Condition]]] = {
    "codec": _codecs,
    "delay": _delays,
    "loss": _losses,
    "noise": _noises,
    "regions": _regions,
    "attacks": _attacks,
    "range": _ranges,
    "agents": _agents,
    "lines": _lines,
}
AXES = {
    "codec": "bytes of a message",
    "delay": "age of the fused maps, ms",
    "loss": "share of messages lost",
    "noise": "spread of the pose error, m and deg",
    "regions": "edge of a region, m",
    "attacks": "attacks",
    "range": "range of communication, m",
    "agents": "agents that take part",
    "lines": "laser lines of the LiDARs",
}
