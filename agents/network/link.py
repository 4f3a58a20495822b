"""Links: delay, jitter, loss and outages of an agent's messages.

Every draw depends on the seed, the agent and the tick alone, not on the order of calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np

from heal.agents.network.network import Link
from heal.agents.network.trace import MAX_DELAY_MS, Trace
from heal.agents.network.transit import ON_THE_LINK, OUTAGE, PACKET_LOSS, Transit
from heal.seeding import AgentDraws
from heal.types import Float64

PACKET_BYTES = 1398
"""Payload of one packet in bytes."""

MIN_JITTER_MS = 1e-6
"""The least jitter that counts, a nanosecond: the parameters of a distribution with less jitter would not be finite."""

Spread = Literal["uniform", "normal", "gamma", "lognormal", "pareto"]


@dataclass(frozen=True)
class PerfectLink:
    """A link on which every message arrives at the time of sending."""

    def deliver(self, sent_ns: int, size_bytes: int, tick: int) -> Transit:
        """Return a transit that arrives at the time of sending."""
        return Transit(sent_ns)


@dataclass(frozen=True)
class DelayedLink:
    """A link that delays every message.

    Attributes:
        delay_ms: mean delay.
        jitter_ms: half the width of the uniform distribution; the standard deviation of every other distribution.
        draws: random numbers of the agent (seed and agent id), from which the delay in each tick is drawn.
        spread: distribution of the delay. "uniform" and "normal" are symmetric, and delays below 0 become 0. The others have a tail
            of long delays: "gamma" a light tail, "lognormal" a longer tail, "pareto" a heavy tail (a power law above a minimum).
    """

    delay_ms: float
    jitter_ms: float
    draws: AgentDraws
    spread: Spread = "uniform"

    def deliver(self, sent_ns: int, size_bytes: int, tick: int) -> Transit:
        """Return a transit that arrives after the delay of the tick."""
        delay_ms = self.delay_ms
        if self.jitter_ms >= MIN_JITTER_MS:
            delay_ms = DELAY_DISTRIBUTIONS[self.spread](self.draws.generator("jitter", tick), self.delay_ms, self.jitter_ms)
        return Transit(sent_ns + max(0, round(min(delay_ms, MAX_DELAY_MS) * 1e6)))


@dataclass(frozen=True)
class LossyLink:
    """A link that loses whole messages and passes the others to an inner link.

    Attributes:
        loss: probability in [0, 1] that a message is lost.
        draws: random numbers of the agent (seed and agent id), which decide for each tick whether the message is lost.
        inner: the link that the other messages cross.
    """

    loss: float
    draws: AgentDraws
    inner: Link = field(default_factory=PerfectLink)

    def deliver(self, sent_ns: int, size_bytes: int, tick: int) -> Transit:
        """Return the transit over the inner link, or a loss."""
        if self.draws.uniform("loss", tick) < self.loss:
            return Transit(None, ON_THE_LINK)
        return self.inner.deliver(sent_ns, size_bytes, tick)


@dataclass(frozen=True)
class PacketLossLink:
    """A link that loses packets. A message is lost if any of its packets is, so a short message arrives more often than a long one.

    Attributes:
        loss: probability in [0, 1] that a packet of 1,398 bytes is lost.
        draws: random numbers of the agent (seed and agent id), which decide for each tick whether a packet is lost.
        inner: the link that the other messages cross.
    """

    loss: float
    draws: AgentDraws
    inner: Link = field(default_factory=PerfectLink)

    def deliver(self, sent_ns: int, size_bytes: int, tick: int) -> Transit:
        """Return the transit over the inner link, or a loss."""
        if self.draws.uniform("packets", tick) < message_loss(self.loss, size_bytes):
            return Transit(None, PACKET_LOSS)
        return self.inner.deliver(sent_ns, size_bytes, tick)


@dataclass(frozen=True)
class OutageLink:
    """A link that is up and down by turns; a message that is sent during an outage is lost.

    Attributes:
        up_s: mean time between two outages, exponentially distributed.
        down_s: mean duration of an outage, exponentially distributed.
        draws: random numbers of the agent (seed and agent id), from which the times of the outages are drawn.
        inner: the link that messages cross while there is no outage.
    """

    up_s: float
    down_s: float
    draws: AgentDraws
    inner: Link = field(default_factory=PerfectLink)

    def deliver(self, sent_ns: int, size_bytes: int, tick: int) -> Transit:
        """Return the transit over the inner link, or a loss."""
        if self.is_down(sent_ns):
            return Transit(None, OUTAGE)
        return self.inner.deliver(sent_ns, size_bytes, tick)

    def is_down(self, time_ns: int) -> bool:
        """Return whether there is an outage at `time_ns`, which depends on the time alone and not on earlier calls."""
        block_ns = round(OUTAGES_PER_BLOCK * (self.up_s + self.down_s) * 1e9)
        block, within_ns = divmod(time_ns, block_ns)
        down_first, switches_s = _outage_switches(self.draws, self.up_s, self.down_s, block)
        return down_first ^ bool(np.searchsorted(switches_s, within_ns / 1e9, side="right") % 2)


@dataclass(frozen=True)
class TracedLink:
    """A link with the recorded delay and loss of a trace; a `heal.agents.network.medium.Medium` applies the trace's rate.

    Attributes:
        trace: the recording.
        draws: random numbers of the agent (seed and agent id), which decide for each tick whether the message is lost.
        inner: the link that the messages cross besides, with a delay and losses of its own.
    """

    trace: Trace
    draws: AgentDraws
    inner: Link = field(default_factory=PerfectLink)

    def deliver(self, sent_ns: int, size_bytes: int, tick: int) -> Transit:
        """Return the transit over the inner link later by the recorded delay, or a loss."""
        row = self.trace.at(sent_ns)
        if row.loss and self.draws.uniform("trace", tick) < row.loss:
            return Transit(None, ON_THE_LINK)
        return self.inner.deliver(sent_ns + round(row.delay_ms * 1e6), size_bytes, tick)


def message_loss(packet_loss: float, size_bytes: int) -> float:
    """Return the probability 1 - (1 - p)^n that a message of n packets is lost, with p = `packet_loss` for each packet."""
    packets = max(1, math.ceil(size_bytes / PACKET_BYTES))
    return 1.0 if packet_loss >= 1 else -math.expm1(packets * math.log1p(-packet_loss))


def _uniform(generator: np.random.Generator, mean: float, half_width: float) -> float:
    return mean + half_width * (2 * generator.random() - 1)


def _normal(generator: np.random.Generator, mean: float, std: float) -> float:
    return generator.normal(mean, std)


def _gamma(generator: np.random.Generator, mean: float, std: float) -> float:
    return generator.gamma((mean / std) ** 2, std**2 / mean)


def _lognormal(generator: np.random.Generator, mean: float, std: float) -> float:
    variance = math.log1p((std / mean) ** 2)
    return generator.lognormal(math.log(mean) - variance / 2, math.sqrt(variance))


def _pareto(generator: np.random.Generator, mean: float, std: float) -> float:
    exponent = 1 + math.hypot(1, mean / std)
    return mean * (1 - 1 / exponent) * (1 + generator.pareto(exponent))


DELAY_DISTRIBUTIONS: Mapping[Spread, Callable[[np.random.Generator, float, float], float]] = {
    "uniform": _uniform,
    "normal": _normal,
    "gamma": _gamma,
    "lognormal": _lognormal,
    "pareto": _pareto,
}
"""For each spread the function that draws a delay in ms from its mean and its jitter in ms."""

OUTAGES_PER_BLOCK = 1000
"""Mean number of outages in a block of time; the outages of a block are drawn together."""


@lru_cache(maxsize=256)
def _outage_switches(draws: AgentDraws, up_s: float, down_s: float, block: int) -> tuple[bool, Float64]:
    """Draw the outages of a block of time.

    Returns:
        Whether the block begins with an outage, and the times at which the link goes down or up, in seconds from the block's begin.
    """
    generator = draws.generator("outage", block % 2**32)
    down_first = bool(generator.random() < down_s / (up_s + down_s))
    means_s = [down_s, up_s] if down_first else [up_s, down_s]
    block_s = OUTAGES_PER_BLOCK * (up_s + down_s)
    durations_s = generator.exponential(means_s, (2 * OUTAGES_PER_BLOCK, 2)).reshape(-1)
    switches_s = np.cumsum(durations_s)
    return down_first, switches_s[switches_s < block_s]
