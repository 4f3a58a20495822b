"""The share of an honest agent's messages that come through a run's door in time, with and without a flood of garbage."""

from __future__ import annotations

import multiprocessing
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from heal.agents.door.clock import RunFacts
from heal.agents.door.connection import DoorConnection
from heal.agents.door.gateway import Gateway
from heal.agents.door.intake import Awaited
from heal.agents.door.options import DoorOptions
from heal.grid import BevGrid
from heal.message.message import Message

if TYPE_CHECKING:
    from heal.tools.benches.measure import BenchRow

MESSAGES, RATE_HZ = 300, 10.0
FLOOD_HZ, GARBAGE_BYTES = 10_000.0, 200
AGENT, START_S = "honest", 300.0
# A feature map of the demo's size: 64 channels on 102.4 x 51.2 m, 2.1 MB as float32.
GRID, CHANNELS = BevGrid((-51.2, -25.6, -3.0, 51.2, 25.6, 1.0), 0.8), 64


@dataclass
class Come:
    """What has come through the door: the delays of the honest messages, what was turned away, and how long it took."""

    delays_ms: list[float] = field(default_factory=list)
    turned_away: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def bench_door() -> list[BenchRow]:
    """Run `heal bench door`: an honest agent alone, and with a flood of garbage on its own topic."""
    return [_row("door/quiet", 0.0), _row("door/flood", FLOOD_HZ)]


def _row(name: str, flood_hz: float) -> BenchRow:
    """Return the share of honest messages that came within the deadline, each timed from before it was made."""
    # Imported late: the senders' processes import this module too, and need no torch.
    from heal.agents.options import RunOptions
    from heal.tools.benches.measure import BenchRow

    come, deadline_ms = run(MESSAGES, flood_hz), RunOptions().deadline_ms
    in_time = sum(delay_ms <= deadline_ms for delay_ms in come.delays_ms) / MESSAGES
    garbage = come.turned_away["malformed"]
    middle, largest = np.median(come.delays_ms or [np.nan]), max(come.delays_ms, default=np.nan)
    note = f"of {MESSAGES} messages within {deadline_ms:g} ms; delay {middle:.1f} ms in the middle, {largest:.1f} ms at most; "
    note += f"{garbage} pieces of garbage turned away, {garbage / come.seconds:.0f} a second"
    return BenchRow(name, value=in_time, unit="in time", note=note)


def run(messages: int, flood_hz: float) -> Come:
    """Send honest messages and a flood through a door in this process, both from processes of their own.

    Args:
        messages: number of honest messages.
        flood_hz: pieces of garbage in a second; 0 for none.
    """
    options, spawned = DoorOptions(listen=free_endpoint()), multiprocessing.get_context("spawn")
    honest, flood = (_honest_bytes, messages, RATE_HZ), (_garbage, sys.maxsize, flood_hz)
    jobs = [honest, flood] if flood_hz else [honest]
    together, stop = spawned.Barrier(len(jobs) + 1, timeout=START_S), spawned.Event()
    gateway, come = Gateway(options, RunFacts("0", "feature", GRID)), Come()
    senders = [spawned.Process(target=_send, args=(options.listen, *job, together, stop), daemon=True) for job in jobs]
    try:
        for sender in senders:
            sender.start()
        together.wait()
        began_s = time.monotonic()
        while senders[0].is_alive():
            _take(gateway, come)
        _take(gateway, come)
        come.seconds = time.monotonic() - began_s
    finally:
        stop.set()
        for sender in senders:
            sender.join()
        gateway.close()
    return come


def _take(gateway: Gateway, come: Come) -> None:
    """Take what has come, at the pace of the ticks."""
    taken = gateway.take(Awaited(time.monotonic() + 1 / RATE_HZ / 2, agents=1))
    come.delays_ms += [message.arrived_s * 1e3 - message.timestamp_ns / 1e6 for message in taken.messages]
    come.turned_away += Counter(taken.turned_away)


def _send(endpoint: str, make: Callable[[], bytes], count: int, rate_hz: float, together: Any, stop: Any) -> None:
    """Send so many byte strings at a rate, in a process of its own, or until the end."""
    with DoorConnection(endpoint, "run", AGENT) as connection:
        assert connection.hears(START_S), "the gateway listens already"
        together.wait()
        began_s, sent = time.monotonic(), 0
        while sent < count and not stop.is_set():
            connection.send(make())
            sent += 1
            time.sleep(max(0.0, began_s + sent / rate_hz - time.monotonic()))


def _honest_bytes() -> bytes:
    """Return a message whose time is now by the monotonic clock, which all processes of a machine share."""
    maps = (np.zeros((CHANNELS, GRID.ny, GRID.nx), np.float32),)
    return Message(AGENT, "m1", "0", time.monotonic_ns(), np.eye(4), GRID, maps, ()).to_bytes()


def _garbage() -> bytes:
    return bytes(GARBAGE_BYTES)


def free_endpoint() -> str:
    """Return an endpoint on this machine that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"tcp/127.0.0.1:{taken.getsockname()[1]}"
