"""The allow list and the check of what is received: every refusal by its name, in the order of its cost, and replays."""

from __future__ import annotations

import logging
import os
import pickle
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from heal.config import ConfigError
from heal.errors import UserError
from heal.identity.allow_list import AllowedAgent, AllowedKey, AllowedSenders, AllowList, allow_list_path
from heal.identity.envelope import Envelope, key_id_of, seal
from heal.identity.key_folder import add_agents, revoke_keys, roll_keys
from heal.identity.keys import private_key_path, public_key_of, read_private_key
from heal.identity.signer import Signer
from heal.identity.verifier import CLOCK_TOLERANCE_S, Refusal, ReplayWindow, Verified, Verifier

NOON = datetime(2026, 11, 30, 12, tzinfo=timezone.utc)
NOON_NS = round(NOON.timestamp()) * 10**9
HOUR, MS = timedelta(hours=1), 10**6
MESSAGE = b"HEAL and so on"
PUBLIC = "ab" * 32


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Return a folder with the keys of agents a and b, which count for a day from noon on."""
    add_agents(tmp_path / "keys", ["a", "b"], NOON, timedelta(days=1))
    return tmp_path / "keys"


class Receiver:
    """A verifier, the list that it reads, and the time of its calendar."""

    def __init__(self, folder: Path, since_ns: int = NOON_NS) -> None:
        self.moment = NOON
        self.read(AllowedSenders(allow_list_path(folder), since_ns))

    def read(self, allowed: AllowedSenders) -> None:
        """Verify by this list from now on, and forget what was used."""
        self.allowed = allowed
        self.verifier = Verifier(allowed, max_age_ms=500, max_ahead_ms=200, calendar=lambda: self.moment)

    def put_in_place_of(self, other: Receiver) -> None:
        """Begin as an actor does that is started again."""
        self.read(pickle.loads(pickle.dumps(self.allowed.after(other.verifier.used()))))

    def reason(self, data: bytes, now_ns: int = 0, sender: str | None = None) -> str:
        """Return why bytes are refused, or "from AGENT"."""
        self.allowed.refresh()
        found = self.verifier.verify(data, now_ns, sender)
        return f"from {found.agent_id}" if isinstance(found, Verified) else found.reason


def signer(folder: Path, agent_id: str = "a", at_ns: int = NOON_NS) -> Signer:
    return Signer(folder, agent_id, lambda: at_ns)


def test_a_message_of_an_allowed_agent_is_taken_once(keys: Path) -> None:
    receiver, data = Receiver(keys), signer(keys).sign(MESSAGE, 0)
    found = receiver.verifier.verify(data, 0, "a")
    assert isinstance(found, Verified) and (found.agent_id, found.types) == ("a", None) and found.envelope.message == MESSAGE
    assert receiver.reason(data) == "replayed" and receiver.reason(data, 400 * MS) == "replayed"
    assert receiver.reason(data, 501 * MS) == "stale"  # nobody has to remember it for longer
    assert receiver.reason(signer(keys, "b").sign(MESSAGE, 0)) == "from b"


def test_a_receiver_in_the_place_of_another_one_takes_no_message_again(keys: Path) -> None:
    first, second, third, by_a = Receiver(keys), Receiver(keys), Receiver(keys), signer(keys)
    earlier, used, unused = (by_a.sign(MESSAGE, 0) for _ in range(3))
    by_other = signer(keys, "b").sign(MESSAGE, 0)
    assert first.reason(used) == "from a"
    second.put_in_place_of(first)
    assert [second.reason(one) for one in (used, earlier, unused, by_other)] == ["replayed", "replayed", "from a", "from b"]
    third.put_in_place_of(second)
    assert [third.reason(one) for one in (used, unused, by_other)] == ["replayed"] * 3
    assert Receiver(keys).reason(used) == "from a"


def test_a_receiver_that_begins_now_takes_nothing_that_was_signed_before(keys: Path) -> None:
    receiver = Receiver(keys)
    before, then_ns = signer(keys, at_ns=time.time_ns() - 2 * 10**9).sign(MESSAGE, 0), time.time_ns()
    receiver.read(receiver.allowed.from_now())
    assert receiver.reason(before) == "replayed"
    assert receiver.reason(signer(keys, at_ns=then_ns).sign(MESSAGE, 0)) == "from a"


def test_every_fault_has_its_name(keys: Path) -> None:
    receiver, data = Receiver(keys), signer(keys).sign(MESSAGE, 0)
    assert receiver.reason(b"") == receiver.reason(MESSAGE) == receiver.reason(b"HSI") == "unsigned"
    assert receiver.reason(data[:-1]) == receiver.reason(data[:100]) == receiver.reason(b"HSIG") == "malformed"
    assert receiver.reason(seal(MESSAGE, Ed25519PrivateKey.generate(), NOON_NS, 0)) == "unknown key"
    assert receiver.reason(data, sender="b") == "wrong sender"
    assert receiver.reason(data, 501 * MS) == "stale" and receiver.reason(data, -201 * MS) == "clock ahead"
    assert receiver.reason(data[:-1] + b"!") == receiver.reason(data[:90] + b"!" + data[91:]) == "bad signature"
    assert receiver.reason(data, 500 * MS) == "from a"  # none of the refusals has used the message up


def test_the_cheap_checks_come_before_the_signature(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, data = Receiver(keys), bytearray(signer(keys).sign(MESSAGE, 0))
    assert receiver.reason(bytes(data)) == "from a"
    monkeypatch.setattr(Envelope, "is_signed_by", lambda *_: pytest.fail("a signature was checked"))
    data[100] ^= 1
    assert receiver.reason(bytes(data)) == "replayed"
    receiver.moment = NOON + timedelta(days=2)
    assert receiver.reason(bytes(data)) == "key expired" and receiver.reason(bytes(data), sender="b") == "wrong sender"


def test_keys_count_from_their_first_moment_until_their_last(keys: Path) -> None:
    receiver = Receiver(keys)
    for moment, expected in (
        (NOON - HOUR, "key not valid yet"),
        (NOON, "from a"),
        (NOON + timedelta(days=1) - timedelta(seconds=1), "from a"),
        (NOON + timedelta(days=1), "key expired"),
    ):
        receiver.moment = moment
        assert receiver.reason(signer(keys, at_ns=int(moment.timestamp()) * 10**9 + 1).sign(MESSAGE, 0)) == expected


def test_a_roll_over_has_no_gap_and_ends(keys: Path) -> None:
    """Messages that were signed before it and the agent's next ones are taken; the old key ends with the overlap."""
    receiver, agent = Receiver(keys), signer(keys)
    before, waiting, kept = agent.sign(MESSAGE, 0), agent.sign(MESSAGE, 0), agent.sign(MESSAGE, 0)
    assert receiver.reason(before) == "from a"
    receiver.moment = NOON + HOUR
    roll_keys(keys, ["a"], NOON + HOUR, HOUR, None)
    after = agent.sign(MESSAGE, 0)
    assert Envelope.of(after).key_id != Envelope.of(before).key_id
    assert receiver.reason(waiting) == "from a" and receiver.reason(after) == "from a" and receiver.reason(after) == "replayed"
    receiver.moment = NOON + 2 * HOUR
    assert receiver.reason(kept) == "key expired" and receiver.reason(agent.sign(MESSAGE, 0)) == "from a"


def test_a_roll_over_does_not_prolong_a_key(keys: Path) -> None:
    before = AllowList.read(allow_list_path(keys)).agents["a"].keys[0].valid_until
    after = roll_keys(keys, ["a"], NOON, timedelta(days=30), timedelta(days=60)).agents["a"].keys
    assert [key.valid_until for key in after] == [before, NOON + timedelta(days=60)]


def test_a_revoked_key_ends_at_once_and_a_new_one_brings_the_agent_back(keys: Path) -> None:
    receiver, agent = Receiver(keys), signer(keys)
    assert receiver.reason(agent.sign(MESSAGE, 0)) == "from a"
    revoke_keys(keys, ["a"], NOON)
    assert receiver.reason(agent.sign(MESSAGE, 0)) == "key revoked"
    assert receiver.reason(signer(keys, "b").sign(MESSAGE, 0)) == "from b"
    assert {key.revoked for key in revoke_keys(keys, ["a"], NOON + HOUR).agents["a"].keys} == {NOON}, "it was revoked already"
    roll_keys(keys, ["a"], NOON, HOUR, None)
    assert receiver.reason(agent.sign(MESSAGE, 0)) == "from a"


def test_an_agent_that_starts_again_uses_no_number_twice(keys: Path) -> None:
    receiver = Receiver(keys)
    first = [signer(keys, at_ns=NOON_NS + n).sign(MESSAGE, 0) for n in (5, 9)]
    standing = signer(keys, at_ns=NOON_NS + 10)  # its clock stands still, so its numbers go on by themselves
    then = [standing.sign(MESSAGE, 0) for _ in range(3)]
    assert [Envelope.of(data).sequence - NOON_NS for data in (*first, *then)] == [5, 9, 10, 11, 12]
    assert [receiver.reason(data) for data in (*then, *first)] == ["from a"] * 5, "the order of arrival does not matter"


def test_a_receiver_that_starts_again_takes_nothing_from_before(keys: Path) -> None:
    data, tolerance_ns = signer(keys).sign(MESSAGE, 0), round(CLOCK_TOLERANCE_S * 1e9)
    assert Receiver(keys).reason(data) == "from a"
    assert Receiver(keys, NOON_NS + tolerance_ns - 1).reason(data) == "from a", "a clock may be behind a little"
    assert Receiver(keys, NOON_NS + tolerance_ns).reason(data) == "replayed"


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 8))
def test_a_window_takes_no_number_twice_and_stays_small(numbers: list[int], kept: int) -> None:
    window, taken = ReplayWindow(3, kept), set[int]()
    for number in numbers:
        if window.is_new(number):
            assert number > 3 and number not in taken
            taken.add(number)
            window.add(number)
        else:
            # Only what has been used, or is older than all that is remembered.
            assert number in taken or number <= 3 or sum(one > number for one in taken) >= kept
        assert len(window._used) <= kept


def test_keys_without_a_sender_are_not_remembered(keys: Path) -> None:
    """Strangers' keys and refused messages cost no memory."""
    receiver = Receiver(keys)
    for number in range(50):
        receiver.reason(seal(MESSAGE, Ed25519PrivateKey.generate(), NOON_NS + number, 0))
        receiver.reason(signer(keys, at_ns=NOON_NS + number).sign(MESSAGE, 0)[:-1] + b"!")
    assert {key_id: window._used for key_id, window in receiver.verifier._windows.items()} == {key_of(keys, "a"): []}


def key_of(folder: Path, agent_id: str) -> bytes:
    return key_id_of(public_key_of(read_private_key(private_key_path(folder, agent_id))))


def test_a_list_that_changes_is_read_again_and_a_damaged_one_is_not(keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    receiver, agent, path = Receiver(keys), signer(keys), allow_list_path(keys)
    whole = path.read_text()
    no_such_day = f"agents: {{a: {{keys: [{{public: {PUBLIC}, revoked: 2026-13-45}}]}}}}"
    for broken in ("agents: [", "agents: {a: {keys: [{public: xyz}]}}", "agent: {}", "", no_such_day):
        path.write_text(broken)
        with caplog.at_level(logging.WARNING):
            assert receiver.reason(agent.sign(MESSAGE, 0)) == "from a"
        assert "the allow list stays as it was" in caplog.text
        caplog.clear()
    path.unlink()
    assert receiver.reason(agent.sign(MESSAGE, 0)) == "from a"
    path.write_text("agents: {}")
    assert receiver.reason(agent.sign(MESSAGE, 0)) == "unknown key"
    path.write_text(whole)
    assert receiver.reason(agent.sign(MESSAGE, 0)) == "from a"


def test_a_list_goes_to_other_processes_as_it_is(keys: Path) -> None:
    allowed = pickle.loads(pickle.dumps(AllowedSenders(allow_list_path(keys), 5)))
    owner = allowed.owner(key_of(keys, "b"))
    assert owner is not None and owner.agent_id == "b" and allowed.since_ns == 5 and allowed.owner(bytes(16)) is None


def test_an_agent_without_a_key_does_not_sign(keys: Path) -> None:
    stranger = signer(keys, "stranger")
    assert stranger.sign(MESSAGE, 0) == MESSAGE
    add_agents(keys, ["stranger"], NOON, None)
    assert Receiver(keys).reason(stranger.sign(MESSAGE, 0)) == "from stranger", "it has got a key meanwhile"
    private_key_path(keys, "a").chmod(0o644)
    with pytest.raises(UserError, match="others can read"):
        signer(keys).sign(MESSAGE, 0)


def test_a_list_is_written_and_read_back(tmp_path: Path) -> None:
    key = AllowedKey(public=PUBLIC, valid_from=NOON, valid_until=NOON + HOUR, revoked=NOON + HOUR / 2)
    whole = AllowList(agents={"-1": AllowedAgent(keys=(key,), types=("m1",)), "b": AllowedAgent(keys=())})
    (tmp_path / "allowed.yaml").write_text(whole.to_yaml())
    assert AllowList.read(tmp_path / "allowed.yaml") == whole


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("agents: {a: {keys: [{public: abc}]}}", "expected 64 hexadecimal digits, got 'abc'"),
        (f"agents: {{a: {{keys: [{{public: {PUBLIC}, until: 3}}]}}}}", "unknown key; did you mean 'valid_until'"),
        (f"agents: {{a: {{keys: [{{public: {PUBLIC}, revoked: 2026-11-30}}]}}}}", "expected a time with a UTC offset"),
        (f"agents: {{a: {{keys: [{{public: {PUBLIC}, revoked: soon}}]}}}}", "revoked"),
        (f"agents: {{1: {{keys: [{{public: {PUBLIC}}}]}}}}", "valid string, got 1"),
        (f"agents: {{a: {{keys: [{{public: {PUBLIC}}}]}}, b: {{keys: [{{public: {PUBLIC}}}]}}}}", "'a' and 'b' have the same key"),
    ],
)
def test_a_wrong_list_is_named(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "allowed.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=expected):
        AllowList.read(path)


def test_a_folder_that_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="heal keys new"):
        allow_list_path(tmp_path / "nowhere")


def test_no_agents_keys_are_overwritten_and_a_failure_leaves_nothing(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in keys.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="a have keys already"):
        add_agents(keys, ["c", "a"], NOON, None)
    with pytest.raises(UserError, match="no agent 'c', there are a, b"):
        roll_keys(keys, ["a", "c"], NOON, HOUR, None)
    with pytest.raises(UserError, match="no agent 'c'"):
        revoke_keys(keys, ["a", "c"], NOON)
    real, calls = os.fsync, []

    def fail_at_the_second(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fail_at_the_second)
    with pytest.raises(OSError, match="No space"):
        add_agents(keys, ["c", "d"], NOON, None)
    assert {path: path.read_bytes() for path in keys.rglob("*") if path.is_file()} == before


def test_a_refusal_is_a_reason_and_a_detail() -> None:
    assert tuple(Refusal("stale", "old")) == ("stale", "old")
    assert replace(AllowedKey(public=PUBLIC), revoked=NOON).problem(NOON) == ("key revoked", "at 2026-11-30T12:00:00+00:00")
