"""A network as text on a command line, such as `dsrc,delay:40,loss:0.1`; docs/links.md lists the options."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from heal.agents.network.link import (
    MIN_JITTER_MS,
    DelayedLink,
    LossyLink,
    OutageLink,
    PacketLossLink,
    PerfectLink,
    Spread,
    TracedLink,
)
from heal.agents.network.medium import ConstantRate, Medium, Rate
from heal.agents.network.network import Link, LinkFactory, LinkNetwork, Network, PerfectNetwork
from heal.agents.network.trace import MAX_DELAY_MS, MIN_MBIT_S, Trace
from heal.errors import UserError
from heal.option_text import OptionText, number_text
from heal.seeding import AgentDraws

DSRC_MBIT_S = 27.0
QUEUE_MS = 100.0
NUMBER_OPTIONS = ("delay", "jitter", "loss", "packet_loss", "rate", "shared", "queue")
MIN_OUTAGE_S, MAX_OUTAGE_S = 1e-6, 1e6
SPREADS: tuple[Spread, ...] = get_args(Spread)


@dataclass(frozen=True)
class Outages:
    """Mean times in seconds for which a link is up and for which it is down."""

    up_s: float
    down_s: float

    def __post_init__(self) -> None:
        """Check that both times are positive and finite."""
        if not all(MIN_OUTAGE_S <= time_s <= MAX_OUTAGE_S for time_s in (self.up_s, self.down_s)):
            raise UserError(
                f"link: outage is the mean seconds up and down, both from {MIN_OUTAGE_S:g} to {MAX_OUTAGE_S:g}, as in outage:20/2; "
                f"got {self}"
            )

    def __str__(self) -> str:
        """Return the value of the option `outage`, such as `20/2`."""
        return f"{number_text(self.up_s)}/{number_text(self.down_s)}"


@dataclass(frozen=True)
class LinkSpec:
    """The options of a network; the default of each option is a perfect network.

    Attributes:
        delay: mean delay of a link in ms.
        jitter: variation of the delay in ms: half the width of the uniform spread, the standard deviation of every other spread.
        loss: probability that a message is lost.
        spread: distribution of the delay.
        packet_loss: probability that a packet of 1,398 bytes is lost, and its message with it.
        rate: rate of each agent's own medium in Mbit/s; None for no limit.
        outages: mean times for which a link is up and down; None for no outages.
        trace: file of a recorded link with delay, loss and rate over time, the same for every agent; None for no recording.
        shared: rate of the medium that all agents share, in Mbit/s; None for no limit.
        queue: a message that would have to wait longer than this, in ms, for a medium (`rate`, `trace` or `shared`) is dropped.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    spread: Spread = "uniform"
    packet_loss: float = 0.0
    rate: float | None = None
    outages: Outages | None = None
    trace: Path | None = None
    shared: float | None = None
    queue: float = QUEUE_MS

    def __post_init__(self) -> None:
        """Check the ranges, and that the options fit together; the negated comparisons also refuse NaN."""
        if not all(0 <= time_ms <= MAX_DELAY_MS for time_ms in (self.delay, self.jitter, self.queue)):
            raise UserError(f"link: delay, jitter and queue are milliseconds from 0 to {MAX_DELAY_MS:g}; got {self}")
        if not (0 <= self.loss <= 1 and 0 <= self.packet_loss <= 1):
            raise UserError(f"link: loss and packet_loss are probabilities in [0, 1]; got {self}")
        if not all(rate is None or MIN_MBIT_S <= rate < math.inf for rate in (self.rate, self.shared)):
            raise UserError(f"link: rate and shared are Mbit/s >= {MIN_MBIT_S}; got {self}")
        if self.jitter and self.delay < MIN_JITTER_MS and self.spread not in ("uniform", "normal"):
            raise UserError(f"link: spread {self.spread} varies around a delay of more than 0; got {self}")
        if self.rate is not None and self.trace is not None:
            raise UserError(f"link: a trace brings its own rate, so name rate or trace, not both; got {self}")
        if self.queue != QUEUE_MS and self.rate is None and self.trace is None and self.shared is None:
            raise UserError(f"link: nothing queues without a rate; name rate, trace, shared or dsrc beside queue; got {self}")

    @staticmethod
    def parse(text: str) -> LinkSpec:
        """Read `perfect`, or options separated by commas.

        If the text has `spread` but not `jitter`, the jitter is half the delay.

        Raises:
            ValueError: the options are unknown, repeated, out of range or contradict each other; the message says what is possible.
        """
        options = OptionText.read("link", text, (*NUMBER_OPTIONS, "spread", "outage", "trace"), ("perfect", "dsrc"))
        if "perfect" in options and len(options.pairs) > 1:
            raise options.error("perfect stands alone; an option that is not named is perfect anyway")
        if "dsrc" in options and "shared" in options:
            raise options.error(f"dsrc is shared:{DSRC_MBIT_S:g}, so name only one of the two")
        delay, trace = options.number("delay", 0.0), options.text_of("trace")
        if "spread" in options and "delay" not in options and "jitter" not in options:
            raise options.error("spread is the distribution of a delay; name delay or jitter too")
        return LinkSpec(
            delay=delay,
            jitter=options.number("jitter", delay / 2 if "spread" in options else 0.0),
            loss=options.number("loss", 0.0),
            spread=cast(Spread, options.choice("spread", SPREADS, "uniform")),
            packet_loss=options.number("packet_loss", 0.0),
            rate=options.number("rate", 0.0) if "rate" in options else None,
            outages=_outages(options),
            trace=None if trace is None else Path(trace),
            shared=options.number("shared", DSRC_MBIT_S) if "shared" in options or "dsrc" in options else None,
            queue=options.number("queue", QUEUE_MS),
        )

    def __str__(self) -> str:
        """Return the text that `parse` reads back to these options."""
        return ",".join(self._parts()) or "perfect"

    def network(self, seed: int) -> Network:
        """Make the network of one run.

        Args:
            seed: of all random draws of the network.

        Raises:
            ValueError: the trace cannot be read.
        """
        if self == LinkSpec():
            return PerfectNetwork()
        trace = None if self.trace is None else Trace.read(self.trace)
        shared = None if self.shared is None else Medium(ConstantRate(self.shared), self.queue, seed)
        return LinkNetwork(self.links(seed, trace), self._own_media(seed, trace), shared)

    def links(self, seed: int, trace: Trace | None) -> LinkFactory:
        """Return the function that makes the link of each agent, without the media before the link.

        Args:
            seed: of all random draws of the links.
            trace: the recording that `self.trace` names; None for none.
        """

        def make(agent_id: str) -> Link:
            draws, link = AgentDraws(seed, agent_id), cast(Link, PerfectLink())
            if self.delay or self.jitter:
                link = DelayedLink(self.delay, self.jitter, draws, self.spread)
            if trace is not None:
                link = TracedLink(trace, draws, link)
            if self.packet_loss:
                link = PacketLossLink(self.packet_loss, draws, link)
            if self.loss:
                link = LossyLink(self.loss, draws, link)
            return OutageLink(self.outages.up_s, self.outages.down_s, draws, link) if self.outages else link

        return make

    def _own_media(self, seed: int, trace: Trace | None) -> Callable[[], Medium] | None:
        """Return the function that makes each agent's own medium; None if nothing limits the rate of an agent."""
        rate: Rate | None = trace if trace is not None and trace.has_rate else None
        if self.rate is not None:
            rate = ConstantRate(self.rate)
        return None if rate is None else lambda: Medium(rate, self.queue, seed)

    def _parts(self) -> Iterator[str]:
        if self.delay or self.spread != "uniform":
            yield f"delay:{number_text(self.delay)}"
        if self.jitter or self.spread != "uniform":
            yield f"jitter:{number_text(self.jitter)}"
        if self.spread != "uniform":
            yield f"spread:{self.spread}"
        for name, value in (("loss", self.loss), ("packet_loss", self.packet_loss)):
            if value:
                yield f"{name}:{number_text(value)}"
        for name, text in (("outage", self.outages), ("trace", self.trace)):
            if text is not None:
                yield f"{name}:{text}"
        for name, rate in (("rate", self.rate), ("shared", self.shared)):
            if rate is not None:
                yield f"{name}:{number_text(rate)}"
        if self.queue != QUEUE_MS:
            yield f"queue:{number_text(self.queue)}"


def _outages(options: OptionText) -> Outages | None:
    value = options.text_of("outage")
    if value is None:
        return None
    up, _, down = value.partition("/")
    return Outages(options.to_number("outage", up), options.to_number("outage", down))
