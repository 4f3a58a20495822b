"""The conditions of a sweep: one run over the same ticks for each, with its point in the figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from heal.agents.options import LATE_POLICIES, RunOptions
from heal.errors import UserError
from heal.message.codec import Codec
from heal.tools.sweeps.senders import SENDER_KINDS, BadSenders
from heal.types import SPLITS

ALONE = "ego alone"
DELAYS_MS = (0, 100, 150, 200, 250, 300, 400, 500)
LOSSES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
NOISES = (0.0, 0.2, 0.4, 0.6)
REGIONS_M = (25.6, 51.2, 72.0)
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
        senders: how agents other than the ego are spoiled; None for not at all.
    """

    series: str
    x: float | None
    name: str
    options: RunOptions
    link: str = "perfect"
    noise: str = "none"
    senders: BadSenders | None = None


def sweep_conditions(kind: str, options: RunOptions, float32_bytes: int, ratios: Iterable[int] = ()) -> tuple[Condition, ...]:
    """Return the conditions of a sweep; the first is the ego alone.

    Args:
        kind: codec, delay, loss, noise, regions or senders.
        options: values of the options that the sweep does not vary.
        float32_bytes: size of an uncoded feature map, from which the byte budgets are derived.
        ratios: of the alliance's compressors, which a sweep of codecs shows beside them.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in KINDS:
        raise UserError(f"unknown sweep {kind!r}; expected one of {', '.join(KINDS)}")
    alone = Condition(ALONE, None, ALONE, replace(options, agents=1))
    compressed = _autoencoders(options, ratios) if kind == "codec" else ()
    return alone, *KINDS[kind](options, float32_bytes), *compressed


def _codecs(options: RunOptions, float32_bytes: int) -> list[Condition]:
    budgets = [f"{values},zstd,budget:{float32_bytes // divisor}" for values, divisor in BUDGETS]
    return [
        Condition(split, None, f"{split}: {codec}", replace(options, split=split, codec=Codec.parse(codec)))
        for split in SPLITS
        for codec in (*WHOLE_CODECS, *budgets)
    ]


def _autoencoders(options: RunOptions, ratios: Iterable[int]) -> list[Condition]:
    """Return runs for each compressor, whose maps are written as the paper counts them, and as our codecs write them."""
    runs = {series: [replace(codec, ae_ratio=ratio) for ratio in ratios] for series, codec in AUTOENCODERS.items()}
    return [
        Condition(series, None, f"feature: {codec}", replace(options, split="feature", codec=codec))
        for series, codecs in runs.items()
        for codec in codecs
    ]


def _delays(options: RunOptions, float32_bytes: int) -> list[Condition]:
    return [
        Condition(late, delay_ms, f"{late}, {delay_ms} ms", replace(options, late=late), link=f"delay:{delay_ms}")
        for late in LATE_POLICIES
        for delay_ms in DELAYS_MS
    ]


def _losses(options: RunOptions, float32_bytes: int) -> list[Condition]:
    return [
        Condition(late, loss, f"{late}, {loss:.0%} lost", replace(options, late=late), link=f"loss:{loss}")
        for late in LATE_POLICIES
        for loss in LOSSES
    ]


def _noises(options: RunOptions, float32_bytes: int) -> list[Condition]:
    """Return each noise with and without the correction of poses, so that its share in the result is seen."""
    runs = {"": replace(options, correct_poses=True), ", not corrected": replace(options, correct_poses=False)}
    return [
        Condition(kind + suffix, size, f"{kind}{suffix}, {size} m / deg", run, noise=f"position:{size},rotation:{size},kind:{kind}")
        for kind in ("gaussian", "laplace")
        for suffix, run in runs.items()
        for size in NOISES
    ]


def _regions(options: RunOptions, float32_bytes: int) -> list[Condition]:
    single_node = Condition("one node", 0.0, "one node", options)
    regions = [Condition("regions", edge_m, f"regions of {edge_m:g} m", replace(options, region_m=edge_m)) for edge_m in REGIONS_M]
    return [single_node, *regions]


def _senders(options: RunOptions, float32_bytes: int) -> list[Condition]:
    """Return honest senders, and one or all of them spoiled in each way, without and with the guard."""
    spoiled = [
        (f"{kind}, {'all' if everyone else 'one'}", BadSenders(kind, everyone))
        for kind in SENDER_KINDS
        for everyone in (False, True)
    ]
    return [
        Condition(f"guard {guard}", place, f"{name}, guard {guard}", replace(options, guard=guard), senders=senders)
        for guard in ("off", "on")
        for place, (name, senders) in enumerate([("honest", None), *spoiled])
    ]


KINDS: Mapping[str, Callable[[RunOptions, int], list[Condition]]] = {
    "codec": _codecs,
    "delay": _delays,
    "loss": _losses,
    "noise": _noises,
    "regions": _regions,
    "senders": _senders,
}
AXES = {
    "codec": "bytes of a message",
    "delay": "age of the fused maps, ms",
    "loss": "share of messages lost",
    "noise": "spread of the pose error, m and deg",
    "regions": "edge of a region, m",
    "senders": "spoiled senders",
}
