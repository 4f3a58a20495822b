"""Links: when, if ever, a message arrives. Every draw depends on (seed, agent, tick) alone, not on the order of the calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np

from heal.agents.network.network import Link
from heal.agents.network.trace import Trace
from heal.agents.network.transit import ON_THE_LINK, OUTAGE, PACKET_LOSS, Transit
from heal.seeding import AgentDraws
from heal.types import Float64

PACKET_BYTES = 1398
"""What one packet carries of a message."""

Spread = Literal["uniform", "normal", "gamma", "lognormal", "pareto"]


@dataclass(frozen=True)
class PerfectLink:
    """Everything arrives at once."""

    def deliver(self, sent_ns: int, size_bytes: int, tick: int) -> Transit:
        """Arrival at the time of sending."""
        return Transit(sent_ns)


@dataclass(frozen=True)
class DelayedLink:
    """A delay that varies.

    Attributes:
        delay_ms: mean delay.
        jitter_ms: uniform: the delay varies evenly within plus and minus this. All others: its standard deviation.
        draws: of the agent.
        spread: its distribution. The symmetric ones, uniform and normal, are cut off at 0; the others have a tail of long delays:
            gamma a light one, lognormal a longer one, pareto a heavy one (a power law, above a least delay).
    """

    delay_ms: float
    jitter_ms: float
    draws: AgentDraws
    spread: Spread = "uniform"

    def deliver(self, sent_ns: int, size_bytes: int, tick: int) -> Transit:
        """Arrival after the delay."""
        delay_ms = self.delay_ms
        if self.jitter_ms:
            delay_ms = DRAWS[self.spread](self.draws.generator("jitter", tick), self.delay_ms, self.jitter_ms)
        return Transit(sent_ns + max(0, round(delay_ms * 1e6)))


@dataclass(frozen=True)
class LossyLink:
    """Loses whole messages and hands the rest to another link.

    Attributes:
        loss: probability in [0, 1] that a message is lost.
        draws: of the agent.
        inner: the link that the others cross.
    """

    loss: float
    draws: AgentDraws
    inner: Link = field(default_factory=PerfectLink)

    def deliver(self, sent_ns: int, size_bytes: int, tick: int) -> Transit:
        """Lost, or what the inner link says."""
        if self.draws.uniform("loss", tick) < self.loss:
            return Transit(None, ON_THE_LINK)
        return self.inner.deliver(sent_ns, size_bytes, tick)


@dataclass(frozen=True)
class PacketLossLink:
    """Loses packets; a message is lost if any of its packets is, so a small one gets through more often.

    Attributes:
        loss: probability in [0, 1] that a packet of 1,398 bytes is lost.
        draws: of the agent.
        inner: the link that whole messages cross.
    """

    loss: float
    draws: AgentDraws
    inner: Link = field(default_factory=PerfectLink)

    def deliver(self, sent_ns: int, size_bytes: int, tick: int) -> Transit:
        """Lost, or what the inner link says."""
        if self.draws.uniform("packets", tick) < message_loss(self.loss, size_bytes):
            return Transit(None, PACKET_LOSS)
        return self.inner.deliver(sent_ns, size_bytes, tick)


@dataclass(frozen=True)
class OutageLink:
    """Is down now and then; whatever is sent while it is down is lost.

    Attributes:
        up_s: mean time between two outages, exponentially distributed.
        down_s: mean time of an outage, likewise.
        draws: of the agent.
        inner: the link while it is up.
    """

    up_s: float
    down_s: float
    draws: AgentDraws
    inner: Link = field(default_factory=PerfectLink)

    def deliver(self, sent_ns: int, size_bytes: int, tick: int) -> Transit:
        """Lost, or what the inner link says."""
        if self.is_down(sent_ns):
            return Transit(None, OUTAGE)
        return self.inner.deliver(sent_ns, size_bytes, tick)

    def is_down(self, time_ns: int) -> bool:
        """Whether there is an outage; a function of time alone."""
        block_ns = round(OUTAGES_DRAWN * (self.up_s + self.down_s) * 1e9)
        block, within_ns = divmod(time_ns, block_ns)
        down_first, switches_s = _switches(self.draws, self.up_s, self.down_s, block)
        return down_first ^ bool(np.searchsorted(switches_s, within_ns / 1e9, side="right") % 2)


@dataclass(frozen=True)
class TracedLink:
    """Delay and loss as recorded; the recorded rate is the business of a `heal.agents.network.medium.Medium`.

    Attributes:
        trace: the recording.
        draws: of the agent.
        inner: what else a message crosses.
    """

    trace: Trace
    draws: AgentDraws
    inner: Link = field(default_factory=PerfectLink)

    def deliver(self, sent_ns: int, size_bytes: int, tick: int) -> Transit:
        """Lost, or later by the recorded delay than what the inner link says."""
        row = self.trace.at(sent_ns)
        if row.loss and self.draws.uniform("trace", tick) < row.loss:
            return Transit(None, ON_THE_LINK)
        return self.inner.deliver(sent_ns + round(row.delay_ms * 1e6), size_bytes, tick)


def message_loss(packet_loss: float, size_bytes: int) -> float:
    """The probability that a message is lost whose packets are lost with `packet_loss`: 1 - (1 - p)^n."""
    packets = max(1, math.ceil(size_bytes / PACKET_BYTES))
    return 1.0 if packet_loss >= 1 else -math.expm1(packets * math.log1p(-packet_loss))


def _uniform(draw: np.random.Generator, mean: float, half_width: float) -> float:
    return mean + half_width * (2 * draw.random() - 1)


def _normal(draw: np.random.Generator, mean: float, std: float) -> float:
    return draw.normal(mean, std)


def _gamma(draw: np.random.Generator, mean: float, std: float) -> float:
    return draw.gamma((mean / std) ** 2, std**2 / mean)


def _lognormal(draw: np.random.Generator, mean: float, std: float) -> float:
    variance = math.log1p((std / mean) ** 2)
    return draw.lognormal(math.log(mean) - variance / 2, math.sqrt(variance))


def _pareto(draw: np.random.Generator, mean: float, std: float) -> float:
    exponent = 1 + math.hypot(1, mean / std)
    return mean * (1 - 1 / exponent) * (1 + draw.pareto(exponent))


DRAWS: Mapping[Spread, Callable[[np.random.Generator, float, float], float]] = {
    "uniform": _uniform,
    "normal": _normal,
    "gamma": _gamma,
    "lognormal": _lognormal,
    "pareto": _pareto,
}
"""How a delay in ms is drawn from its mean and its jitter."""

OUTAGES_DRAWN = 1000
"""So many outages are drawn at once, on average."""


@lru_cache(maxsize=256)
def _switches(draws: AgentDraws, up_s: float, down_s: float, block: int) -> tuple[bool, Float64]:
    """Whether a block of time begins with an outage, and the seconds from its begin at which the link goes down or up."""
    draw = draws.generator("outage", block % 2**32)
    down_first = bool(draw.random() < down_s / (up_s + down_s))
    means_s = [down_s, up_s] if down_first else [up_s, down_s]
    block_s = OUTAGES_DRAWN * (up_s + down_s)
    lasting_s = draw.exponential(means_s, (2 * OUTAGES_DRAWN, 2)).reshape(-1)
    switches_s = np.cumsum(lasting_s)
    return down_first, switches_s[switches_s < block_s]
