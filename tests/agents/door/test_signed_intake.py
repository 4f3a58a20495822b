"""The intake of a door in a run with keys: nobody but an agent itself can take the place of its messages, or use up its limits."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from heal.agents.door import intake
from heal.agents.door.intake import Awaited, Intake
from heal.agents.door.options import DoorOptions
from heal.agents.door.signatures import TOO_MANY_FORGERIES, SignatureCheck
from heal.identity.allow_list import AllowedSenders, allow_list_path, now
from heal.identity.envelope import Envelope, seal
from heal.identity.key_folder import add_agents, revoke_keys
from heal.identity.keys import private_key_path, read_private_key
from tests.agents.door.messages import message, send

LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)
LATER_NS = 4 * 10**18  # a sequence number far beyond the present time
OPTIONS = DoorOptions()


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Return a folder with keys for agents a and b."""
    add_agents(tmp_path / "keys", ["a", "b"], LONG_AGO, None)
    return tmp_path / "keys"


@pytest.fixture
def allowed(keys: Path) -> AllowedSenders:
    return AllowedSenders(allow_list_path(keys), since_ns=2 * 10**9)


def signed(keys: Path, sequence: int, agent_id: str = "a", content: bytes = b"") -> bytes:
    """Return a signed message whose sequence number says in which order it was sent; the first that counts is 1."""
    key = read_private_key(private_key_path(keys, agent_id))
    return seal(content or message(agent_id, timestamp_ns=sequence), key, 2 * 10**9 + sequence, sequence)


def forged(keys: Path, sequence: int = LATER_NS, agent_id: str = "a") -> bytes:
    """Return what a stranger makes of what it knows: an agent's id, the id of its key, and the form of the message."""
    honest = signed(keys, 1, agent_id)
    made_up = bytearray(seal(message(agent_id, timestamp_ns=sequence), Ed25519PrivateKey.generate(), sequence, sequence))
    made_up[8:24] = Envelope.of(honest).key_id
    own = Ed25519PrivateKey.generate().sign(bytes(made_up[:80]))
    return bytes(made_up[:80]) + own + bytes(made_up[144:])


def test_a_forgery_displaces_nothing_and_is_counted(keys: Path, allowed: AllowedSenders) -> None:
    door, honest = Intake(OPTIONS, allowed), signed(keys, 1)
    send(door, forged(keys))
    send(door, honest)
    send(door, forged(keys))
    send(door, message())
    send(door, signed(keys, 2, "b"), "a")
    taken = door.take()
    assert [one.payload for one in taken.messages] == [honest]
    assert taken.turned_away == {"bad signature": 2, "unsigned": 1, "wrong sender": 1}


def test_a_forgery_ends_no_wait_and_takes_no_senders_place(keys: Path, allowed: AllowedSenders) -> None:
    door = Intake(replace(OPTIONS, most_agents=1), allowed)
    send(door, forged(keys, agent_id="b"), "b")
    assert not door.wait(Awaited(time.monotonic() + 0.05, agents=1))
    send(door, signed(keys, 1))
    assert door.wait(Awaited(time.monotonic() + 60, agents=1))
    send(door, signed(keys, 1, "b"), "b")
    assert door.take().turned_away == {"bad signature": 1, "too many senders": 1}


def test_every_refusal_of_the_allow_list_has_its_name(keys: Path, allowed: AllowedSenders) -> None:
    door, stranger = Intake(OPTIONS, allowed), Ed25519PrivateKey.generate()
    send(door, seal(message(), stranger, LATER_NS, 0))
    send(door, signed(keys, -(10**9) - 1))  # from before the run
    revoke_keys(keys, ["a"], now())
    allowed.refresh()
    send(door, signed(keys, 1))
    taken = door.take()
    assert not taken.messages and taken.turned_away == {"unknown key": 1, "replayed": 1, "key revoked": 1}


def test_recorded_messages_displace_no_newer_one_and_use_up_no_limits(keys: Path, allowed: AllowedSenders) -> None:
    door = Intake(replace(OPTIONS, messages_per_s=4), allowed)
    recorded, intercepted, newest = (signed(keys, sequence) for sequence in (1, 2, 3))
    send(door, recorded)
    assert [one.payload for one in door.take().messages] == [recorded]
    send(door, newest)
    for _ in range(100):
        send(door, recorded)
    send(door, intercepted)  # one that the door has never seen: the fusion node would say that it is superseded
    taken = door.take()
    assert [one.payload for one in taken.messages] == [newest]
    assert taken.turned_away == {"replayed": 100, "queue full": 1}
    send(door, signed(keys, 4))
    assert len(door.take().messages) == 1, "four messages have used up the limit, and no replay has"
    send(door, signed(keys, 5))
    assert door.take().turned_away == {"rate limit": 1}


def test_the_newer_of_two_messages_is_kept_in_whichever_order_they_come(keys: Path, allowed: AllowedSenders) -> None:
    door, (older, newer) = Intake(OPTIONS, allowed), (signed(keys, 1), signed(keys, 2))
    for first, second in ((older, newer), (signed(keys, 4), signed(keys, 3))):
        send(door, first)
        send(door, second)
    taken = door.take()
    assert [one.timestamp_ns for one in taken.messages] == [4] and taken.turned_away == {"queue full": 3}


def test_without_keys_the_last_to_come_is_kept_whatever_time_it_claims() -> None:
    """A single claim of a time that is far ahead would keep all later messages of the tick away."""
    door = Intake(OPTIONS)
    for timestamp_ns in (LATER_NS, 5):
        send(door, message(timestamp_ns=timestamp_ns))
    assert [one.timestamp_ns for one in door.take().messages] == [5]


def test_a_sender_beyond_its_limits_costs_no_signature(
    keys: Path, allowed: AllowedSenders, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = Intake(replace(OPTIONS, messages_per_s=1e-6), allowed)
    send(door, signed(keys, 1))
    monkeypatch.setattr(Envelope, "is_signed_by", lambda *_: pytest.fail("a signature was checked"))
    send(door, signed(keys, 2))
    assert door.take().turned_away == {"rate limit": 1}


def test_a_flood_of_forgeries_is_checked_no_faster_than_it_may_be(
    keys: Path, allowed: AllowedSenders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs the attacked agent messages, and no other one; when it is over, the agent is heard again."""
    now_s, checked = [100.0], [0]

    def counted(envelope: Envelope, public_key: bytes) -> bool:
        checked[0] += 1
        return is_signed_by(envelope, public_key)

    is_signed_by = Envelope.is_signed_by
    monkeypatch.setattr(Envelope, "is_signed_by", counted)
    monkeypatch.setattr(intake, "monotonic", lambda: now_s[0])
    door, forgery = Intake(replace(OPTIONS, forgeries_per_s=10), allowed), forged(keys)
    for _ in range(3 * 500):  # three seconds
        send(door, forgery)
        now_s[0] += 1 / 500
    assert checked[0] == 40  # ten at once, and ten in each second
    send(door, signed(keys, 1))
    send(door, signed(keys, 1, "b"), "b")
    taken = door.take()
    assert [one.agent_id for one in taken.messages] == ["b"]
    assert taken.turned_away == {"bad signature": 40, TOO_MANY_FORGERIES: 1500 - 40 + 1}
    now_s[0] += 1.0
    send(door, signed(keys, 1))
    assert [one.agent_id for one in door.take().messages] == ["a"]


def test_a_few_forgeries_cost_the_attacked_agent_nothing(keys: Path, allowed: AllowedSenders) -> None:
    door, forgery = Intake(OPTIONS, allowed), forged(keys)
    for sequence in range(10):
        for _ in range(20):
            send(door, forgery)
        send(door, signed(keys, sequence))
        assert len(door.take().messages) == 1


def test_a_signature_that_takes_long_keeps_no_tick_waiting(
    keys: Path, allowed: AllowedSenders, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(envelope: Envelope, public_key: bytes) -> bool:
        begun.set()
        return go_on.wait(60)

    monkeypatch.setattr(Envelope, "is_signed_by", slow)
    door = Intake(OPTIONS, allowed)
    sender = threading.Thread(target=send, args=(door, signed(keys, 1)))
    sender.start()
    assert begun.wait(60) and not door.take().messages
    go_on.set()
    sender.join()
    assert len(door.take().messages) == 1


def test_messages_that_come_at_the_same_time_are_each_taken_once(keys: Path, allowed: AllowedSenders) -> None:
    check, content, found = SignatureCheck(allowed, 1000.0), signed(keys, 1), list[int | str]()
    threads = [threading.Thread(target=lambda: found.append(check.check("a", content, 0.0))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, found)) == ["2000000001"] + ["replayed"] * 7
