"""The intake of a door: every byte string that comes is kept or counted, and what strangers can make it keep is bounded."""

from __future__ import annotations

import random
import threading
import tracemalloc
from collections import Counter
from dataclasses import replace
from time import monotonic

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from heal.agents.door import intake
from heal.agents.door.bucket import TokenBucket
from heal.agents.door.frame import Claims, claims_of
from heal.agents.door.intake import Awaited, Intake
from heal.agents.door.options import DoorOptions
from heal.agents.door.topics import agent_topics, clock_topic, message_topic, sender_of
from heal.errors import UserError
from heal.identity.envelope import MAGIC, seal
from tests.agents.door.messages import message, send


def test_a_message_is_kept_with_what_it_claims() -> None:
    door, content = Intake(DoorOptions()), message("a", 123, "m3")
    send(door, content)
    taken = door.take()
    [one] = taken.messages
    assert (one.agent_id, one.agent_type, one.timestamp_ns, one.size_bytes) == ("a", "m3", 123, len(content))
    assert one.payload == content and not taken.turned_away
    assert not door.take().messages


def test_whatever_is_turned_away_has_its_reason() -> None:
    door = Intake(DoorOptions(most_agents=2, most_message_bytes=50_000, messages_per_s=3))
    door.reserve(["ego"])
    content = message()
    send(door, content, topic="heal/run/agent/a/other")
    send(door, content, topic="heal/another/agent/a/message")
    send(door, content, "ego")
    send(door, bytes(50_001))
    send(door, content[:-1])
    send(door, b"GARB" + content[4:])
    send(door, b"")
    for agent_id in ("a", "b", "c"):
        send(door, message(agent_id), agent_id)
    for _ in range(3):
        send(door, content)
    taken = door.take()
    assert [one.agent_id for one in taken.messages] == ["a", "b"]
    assert taken.turned_away == {
        "unknown topic": 2,
        "id taken": 1,
        "too long": 1,
        "malformed": 3,
        "too many senders": 1,
        "queue full": 2,
        "rate limit": 1,
    }
    assert sum(taken.turned_away.values()) + len(taken.messages) == 13
    assert not door.take().turned_away, "each is counted once"


def test_the_bytes_of_what_is_too_long_are_not_even_read() -> None:
    door = Intake(DoorOptions(most_message_bytes=1000))
    door.receive(message_topic("run", "a"), 1001, lambda: pytest.fail("read"))
    door.receive("heal/run/agent/a/b/message", 10, lambda: pytest.fail("read"))
    assert door.take().turned_away == {"too long": 1, "unknown topic": 1}


def test_the_newest_message_of_a_sender_is_kept_and_the_others_are_counted() -> None:
    door = Intake(DoorOptions())
    for timestamp_ns in (1, 3, 2):
        send(door, message(timestamp_ns=timestamp_ns))
    taken = door.take()
    assert [one.timestamp_ns for one in taken.messages] == [2] and taken.turned_away == {"queue full": 2}


def test_garbage_under_an_agents_topic_does_not_use_up_its_limits() -> None:
    door = Intake(DoorOptions(messages_per_s=1))
    for _ in range(1000):
        send(door, b"garbage" * 100)
    send(door, message())
    taken = door.take()
    assert len(taken.messages) == 1 and taken.turned_away == {"malformed": 1000}


def test_a_sender_that_has_long_been_silent_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr(intake, "monotonic", lambda: now_s[0])
    door = Intake(DoorOptions(most_agents=1))
    send(door, message("a"), "a")
    now_s[0] += 2 * intake.FORGET_S
    send(door, message("b"), "b")  # the message of a waits to be collected
    taken = door.take()
    assert [one.agent_id for one in taken.messages] == ["a"] and taken.turned_away == {"too many senders": 1}
    send(door, message("b"), "b")
    assert [one.agent_id for one in door.take().messages] == ["b"]


def test_what_a_flood_makes_the_door_keep_is_bounded() -> None:
    door, content = Intake(DoorOptions(most_agents=4, messages_per_s=1e9, bytes_per_s=1e12)), message()
    tracemalloc.start()
    for i in range(5000):
        send(door, bytes(content), f"stranger{i}")
        send(door, content + bytes(8), f"stranger{i % 4}")
        send(door, content, topic=f"heal/run/agent/{'x' * (i % 300)}/{i}")
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 4 * len(content) + 100_000
    taken = door.take()
    assert len(taken.messages) == 4 and sum(taken.turned_away.values()) == 15_000 - 4


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(rate_per_s=2.0, burst=3.0)
    given = []
    for now_s in (10.0, 10.0, 10.0, 10.0, 10.4, 10.5, 60.0, 60.0, 60.0, 60.0):
        given.append(bucket.has(1, now_s))
        if given[-1]:
            bucket.take(1)
    assert given == [True, True, True, False, False, True, True, True, True, False]


def test_waiting_ends_with_the_message_or_with_the_time() -> None:
    door = Intake(DoorOptions())
    both = Awaited(monotonic() + 60, newer_than_ns=4, agent_ids=frozenset("ab"), agents=2)
    briefly = replace(both, until_s=monotonic() + 0.05)
    send(door, message("a"), "a")
    send(door, message("b", timestamp_ns=4), "b")  # tells of an earlier tick
    assert not door.wait(briefly)
    threading.Timer(0.1, send, (door, message("b"), "b")).start()
    assert door.wait(both)


def test_any_bytes_are_looked_at_without_an_error() -> None:
    draw, content, found = random.Random(7), message(), Counter[bool]()
    for _ in range(20_000):
        mutated = bytearray(content[:400] if draw.random() < 0.5 else content)
        for _ in range(draw.randrange(1, 6)):
            mutated[draw.randrange(min(len(mutated), 300))] = draw.randrange(256)
        claims = claims_of(bytes(mutated[: draw.randrange(len(mutated) + 1)] if draw.random() < 0.3 else mutated))
        assert claims is None or len(claims.agent_type) <= 1 << 16
        found[claims is None] += 1
    assert min(found[True], found[False]) > 1000


def test_an_envelope_is_let_in_by_its_magic_and_the_message_in_it_is_looked_at() -> None:
    sealed = seal(message("a", 9, "m2"), Ed25519PrivateKey.generate(), 1, 9)
    assert claims_of(sealed) == Claims("m2", 9)
    assert claims_of(sealed[:-1]) is None and claims_of(MAGIC + bytes(1000)) is None


def test_topics_name_their_agents_and_no_others() -> None:
    assert sender_of(message_topic("run", "-1"), "run") == "-1"
    assert agent_topics("run") == "heal/run/agent/**" and clock_topic("run") == "heal/run/clock"
    for topic in ("heal/run/agent//message", "heal/run/agent/a/b/message", "heal/r.n/agent/a/message", "x", clock_topic("run")):
        assert sender_of(topic, "run") is None
    assert sender_of(message_topic("run", "x" * 129), "run") is None and sender_of("heal/rxn/agent/a/message", "r.n") is None
    with pytest.raises(UserError, match="letters, digits"):
        DoorOptions(run="a/b")
