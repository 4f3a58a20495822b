"""Links: when, if ever, a message arrives. Every draw depends on (seed, agent, tick) alone, not on the order of the calls."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Protocol

import numpy as np


class Link(Protocol):
    """What one agent's messages cross on their way to the fusion node."""

    def deliver(self, sent_ns: int, size_bytes: int, tick: int) -> int | None:
        """When a message sent at `sent_ns` arrives, in simulated nanoseconds; None if it is lost."""
        ...


LinkFactory = Callable[[str], Link]
"""Makes the link of an agent from its id; a run calls it once for each agent."""


@dataclass(frozen=True)
class PerfectLink:
    """Everything arrives at once."""

    def deliver(self, sent_ns: int, size_bytes: int, tick: int) -> int | None:
        """Arrival at the time of sending."""
        return sent_ns


@dataclass(frozen=True)
class Dice:
    """Random numbers for one agent, the same for the same tick whenever they are drawn."""

    seed: int
    agent_id: str

    def uniform(self, purpose: str, tick: int) -> float:
        """A number in [0, 1); different purposes draw independently."""
        key = (self.seed, zlib.crc32(self.agent_id.encode()), zlib.crc32(purpose.encode()), tick)
        return float(np.random.default_rng(key).random())


@dataclass(frozen=True)
class DelayedLink:
    """A delay with uniform jitter.

    Attributes:
        delay_ms: mean delay.
        jitter_ms: the delay varies evenly within plus and minus this, never below 0.
        dice: of the agent.
    """

    delay_ms: float
    jitter_ms: float
    dice: Dice

    def deliver(self, sent_ns: int, size_bytes: int, tick: int) -> int | None:
        """Arrival after the delay."""
        offset_ms = self.jitter_ms * (2 * self.dice.uniform("jitter", tick) - 1) if self.jitter_ms else 0.0
        return sent_ns + max(0, round((self.delay_ms + offset_ms) * 1e6))


@dataclass(frozen=True)
class LossyLink:
    """Loses whole messages and hands the rest to another link.

    Attributes:
        loss: probability in [0, 1] that a message is lost.
        dice: of the agent.
        inner: the link that the others cross.
    """

    loss: float
    dice: Dice
    inner: Link = field(default_factory=PerfectLink)

    def deliver(self, sent_ns: int, size_bytes: int, tick: int) -> int | None:
        """None if lost, else what the inner link says."""
        if self.dice.uniform("loss", tick) < self.loss:
            return None
        return self.inner.deliver(sent_ns, size_bytes, tick)


@dataclass(frozen=True)
class LinkSpec:
    """A link in words, such as `delay:100,jitter:20,loss:0.1`; what is not named is perfect."""

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0

    def __post_init__(self) -> None:
        """Check ranges; the negated form also refuses NaN."""
        if not (0 <= self.delay < float("inf") and 0 <= self.jitter < float("inf") and 0 <= self.loss <= 1):
            raise ValueError(f"link: delay and jitter are milliseconds >= 0, loss a probability in [0, 1]; got {self}")

    @staticmethod
    def parse(text: str) -> LinkSpec:
        """Read `perfect`, or `name:value` pairs separated by commas; ValueError with what is possible otherwise."""
        if text.strip() == "perfect":
            return LinkSpec()
        known = [item.name for item in fields(LinkSpec)]
        values: dict[str, float] = {}
        for part in text.split(","):
            name, _, value = part.strip().partition(":")
            if name not in known or name in values:
                raise ValueError(f"link {text!r}: {part!r} is not one of {known}, each at most once, as in delay:100,loss:0.1")
            try:
                values[name] = float(value)
            except ValueError as error:
                raise ValueError(f"link {text!r}: expected a number after {name}:, got {value!r}") from error
        return LinkSpec(**values)

    def factory(self, seed: int) -> LinkFactory:
        """Makes every agent's link of this kind."""

        def make(agent_id: str) -> Link:
            dice = Dice(seed, agent_id)
            delayed: Link = DelayedLink(self.delay, self.jitter, dice) if self.delay or self.jitter else PerfectLink()
            return LossyLink(self.loss, dice, delayed) if self.loss else delayed

        return make
