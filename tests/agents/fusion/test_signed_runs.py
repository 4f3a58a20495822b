"""Runs whose messages are signed: their boxes are those of unsigned runs, and a forged message is simply missing."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import torch

from heal.agents.fusion.host import NodeHost
from heal.agents.fusion.knowledge import NodeKnowledge
from heal.agents.fusion.node import FusionNode
from heal.agents.fusion.sender_check import allowed_senders
from heal.agents.joining import Join
from heal.agents.local_runtime import LocalRuntime
from heal.agents.message_records import MessageRecord
from heal.agents.network.network import Network
from heal.agents.network.spec import LinkSpec
from heal.agents.options import RunOptions
from heal.agents.records import Arrival, TickResult
from heal.errors import UserError
from heal.identity import verifier
from heal.identity.allow_list import AllowList, allow_list_path, now
from heal.identity.envelope import ENVELOPE_BYTES, Envelope, is_enveloped
from heal.identity.key_folder import add_agents, revoke_keys, roll_keys
from heal.identity.keys import private_key_path
from heal.identity.signer import Signer
from heal.message.codec import Codec
from heal.message.message import Message
from tests.agents.fusion.tiny_node import ALLIANCE, MESSAGES, request_at
from tests.agents.tiny_run import TinySource, Without, assert_same_results, by_id

SOURCE = TinySource(scenarios=(("ego", "b", "c"),), ticks_each=6)
TYPES = by_id({"ego": "m1", "b": "m1", "c": "m2"})
LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
DROP = RunOptions(late="drop")
Post = Callable[[Callable[[MessageRecord, bytes], None], MessageRecord, bytes], None]
"""What happens to a message on its way: it is given how messages are delivered, the message's record, and its bytes."""


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Return a folder with keys for agents b and c; the ego, whose message is read on board, needs none."""
    add_agents(tmp_path / "keys", ["b", "c"], LONG_AGO, None)
    return tmp_path / "keys"


def signed(keys: Path, options: RunOptions = DROP) -> RunOptions:
    return replace(options, keys=str(keys))


def run(
    options: RunOptions = DROP,
    network: Network | None = None,
    on_the_way: Post | None = None,
    between: Callable[[int], None] = lambda tick: None,
    ticks: Sequence[int] = range(6),
) -> list[TickResult]:
    """Run ticks; `between` is called after each of them."""
    with LocalRuntime(ALLIANCE, SOURCE, TYPES, network, options) as runtime:
        if on_the_way is not None:
            deliver, change = runtime._coordinator._mailbox.post, on_the_way
            runtime._coordinator._mailbox.post = lambda record, data: change(deliver, record, data)  # type: ignore[method-assign]
        results = []
        for result in runtime.run(ticks):
            results.append(result)
            between(result.tick)
        return results


def same_boxes(ours: Sequence[TickResult], others: Sequence[TickResult]) -> bool:
    pairs = [(a.detections, b.detections) for a, b in zip(ours, others, strict=True)]
    return all(torch.equal(a.corners, b.corners) and torch.equal(a.scores, b.scores) for a, b in pairs)


def kinds_of(results: Sequence[TickResult], agent_id: str = "b") -> list[str]:
    return [record.kind for result in results for record in result.messages if record.agent_id == agent_id]


OPTIONS: dict[str, tuple[RunOptions, str]] = {
    "feature": (RunOptions(), "perfect"),
    "pyramid": (RunOptions(split="pyramid", codec=Codec("int8", zstd=True)), "perfect"),
    "boxes": (RunOptions(split="boxes"), "perfect"),
    "late": (RunOptions(), "delay:80,jitter:120,loss:0.2"),
    "regions": (RunOptions(region_m=16.0), "perfect"),
    "late regions": (RunOptions(region_m=16.0), "delay:80,jitter:120,loss:0.2"),
    "joining": (RunOptions(agents=2, joins=(Join("m2", 2, "c"),)), "perfect"),
}


@pytest.mark.parametrize(("options", "link"), OPTIONS.values(), ids=OPTIONS)
def test_the_boxes_are_those_of_an_unsigned_run(keys: Path, options: RunOptions, link: str) -> None:
    """With regions the ego's message crosses a link too, and is signed."""
    add_agents(keys, ["ego"], LONG_AGO, None)
    plain, ours = (run(one, LinkSpec.parse(link).network(5)) for one in (options, signed(keys, options)))
    assert any(len(result.detections) for result in plain)
    sealed = [_without_envelopes(result) for result in ours]
    assert_same_results(sealed, plain)
    assert ours[0].counts.bytes == plain[0].counts.bytes + ENVELOPE_BYTES * ours[0].counts.sent > 0


def _without_envelopes(result: TickResult) -> TickResult:
    """Take the envelopes off the sizes of the messages that crossed a link."""
    records = tuple(
        replace(record, size_bytes=record.size_bytes - ENVELOPE_BYTES) if record.size_bytes and not record.own else record
        for record in result.messages
    )
    return replace(result, messages=records)


def test_only_what_crosses_a_link_is_signed(keys: Path) -> None:
    seen: dict[str, bool] = {}

    def look(deliver: Callable[..., None], record: MessageRecord, data: bytes) -> None:
        seen[record.agent_id] = is_enveloped(data)
        deliver(record, data)

    run(signed(keys), on_the_way=look, ticks=[0])
    assert seen == {"ego": False, "b": True, "c": True}
    run(DROP, on_the_way=look, ticks=[0])
    assert seen == {"ego": False, "b": False, "c": False}


def test_a_run_without_keys_takes_no_envelopes(keys: Path) -> None:
    """Nobody would have checked them."""
    by_b = Signer(keys, "b").sign(MESSAGES["b"].to_bytes(), 0)
    outcome = FusionNode(NodeKnowledge.of(ALLIANCE, DROP)).step(request_at(0), [Arrival("b", by_b, 0)])
    assert [(one.reason, one.detail) for one in outcome.rejected] == [
        ("malformed", "not a message: expected the first bytes b'HEAL', got b'HSIG'")
    ]


def _remove(keys: Path) -> None:
    private_key_path(keys, "b").unlink()


def _steal(keys: Path) -> None:
    shutil.copy2(private_key_path(keys, "c"), private_key_path(keys, "b"))


def _make_up(keys: Path) -> None:
    add_agents(keys.parent / "other", ["b"], LONG_AGO, None)
    shutil.copy2(private_key_path(keys.parent / "other", "b"), private_key_path(keys, "b"))


def _change_list(keys: Path, **changes: Any) -> None:
    path = allow_list_path(keys)
    allowed = AllowList.read(path)
    own = allowed.agents["b"]
    types = changes.pop("types", None)
    path.write_text(allowed.with_agent("b", replace(own, keys=(replace(own.keys[0], **changes),), types=types)).to_yaml())


WRONG_KEYS: dict[str, Callable[[Path], None]] = {
    "unsigned": _remove,
    "wrong sender": _steal,
    "unknown key": _make_up,
    "key expired": lambda keys: _change_list(keys, valid_until=LONG_AGO + HOUR),
    "key not valid yet": lambda keys: _change_list(keys, valid_from=now() + HOUR),
    "key revoked": lambda keys: _change_list(keys, revoked=LONG_AGO),
    "wrong type": lambda keys: _change_list(keys, types=("m2",)),
}


@pytest.mark.parametrize(("reason", "change"), WRONG_KEYS.items(), ids=WRONG_KEYS)
def test_a_sender_without_the_right_key_is_missing_and_the_rest_is_as_before(
    keys: Path, reason: str, change: Callable[[Path], None]
) -> None:
    change(keys)
    results = run(signed(keys))
    assert kinds_of(results) == [f"rejected: {reason}"] * 6 and kinds_of(results, "c") == ["used"] * 6
    assert same_boxes(results, run(network=Without(frozenset((tick, "b") for tick in range(6)))))
    assert not same_boxes(results, run())


# Each field of the envelope, the message's header and its payload; how a flipped lowest bit shows.
FLIPPED = {
    0: "unsigned",
    4: "malformed",
    6: "malformed",
    8: "unknown key",
    24: "bad signature",
    32: "bad signature",
    39: "stale",
    40: "malformed",
    48: "bad signature",
    80: "bad signature",
    143: "bad signature",
    144: "bad signature",
    400: "bad signature",
    -1: "bad signature",
}


@pytest.mark.parametrize(("at", "reason"), FLIPPED.items())
def test_a_message_that_was_changed_on_its_way_is_missing(keys: Path, at: int, reason: str) -> None:
    def flip(deliver: Callable[..., None], record: MessageRecord, data: bytes) -> None:
        changed = bytearray(data)
        if record.agent_id == "b":
            changed[at] ^= 1
        deliver(record, bytes(changed))

    results = run(signed(keys), on_the_way=flip, ticks=[0, 1])
    assert kinds_of(results) == [f"rejected: {reason}"] * 2
    assert same_boxes(results, run(network=Without(frozenset({(0, "b"), (1, "b")})), ticks=[0, 1]))


def test_a_message_is_used_once_in_its_tick_and_never_again(keys: Path) -> None:
    """A recorded message is sent a second time in the same tick, and in place of the sender's next one."""
    recorded: dict[int, bytes] = {}

    def replay(deliver: Callable[..., None], record: MessageRecord, data: bytes) -> None:
        if record.agent_id == "b" and record.tick == 1:
            recorded[1] = data
        if record.agent_id == "b" and record.tick == 2:
            data = recorded[1]
        deliver(record, data)

    results = run(signed(keys, RunOptions()), on_the_way=replay)
    assert kinds_of(results) == ["used", "used", "rejected: replayed", "used", "used", "used"]
    lost = run(RunOptions(), Without(frozenset({(2, "b")})))
    assert same_boxes(results, lost), "the map of tick 1 is held, as when the message of tick 2 is lost"

    options = signed(keys)
    node = FusionNode(NodeKnowledge.of(ALLIANCE, options, allowed_senders(options)))
    data = Signer(keys, "b").sign(MESSAGES["b"].to_bytes(), 0)
    ego = Arrival("ego", MESSAGES["ego"].to_bytes(), 0)
    twice = node.step(request_at(0), [ego, Arrival("b", data, 0), Arrival("b", data, 0)])
    assert twice.used == ("ego", "b") and [one.reason for one in twice.rejected] == ["replayed"]
    again = node.step(request_at(1), [Arrival("b", data, 1)])
    assert [one.reason for one in again.rejected] == ["replayed"]


def test_a_node_in_the_place_of_another_one_uses_no_message_again(keys: Path) -> None:
    options, by_b = signed(keys), Signer(keys, "b")
    allowed = allowed_senders(options)
    assert allowed is not None
    data, fresh = by_b.sign(MESSAGES["b"].to_bytes(), 0), by_b.sign(MESSAGES["b"].to_bytes(), 0)
    first = NodeHost(NodeKnowledge.of(ALLIANCE, options, allowed))
    ego = Arrival("ego", MESSAGES["ego"].to_bytes(), 0)
    [outcome] = first.step([(request_at(0), [ego, Arrival("b", data, 0)])])
    assert outcome.used == ("ego", "b")
    second = NodeHost(NodeKnowledge.of(ALLIANCE, options, allowed.after(outcome.used_sequences)))
    [outcome] = second.step([(request_at(0), [ego, Arrival("b", data, 0), Arrival("b", fresh, 0)])])
    assert outcome.used == ("ego", "b") and [one.reason for one in outcome.rejected] == ["replayed"]


def test_an_admitted_sender_cannot_speak_for_another_one(keys: Path) -> None:
    """It signs its own message, and writes another sender's id into the header, or sends on another one's link."""
    options = signed(keys)
    node = FusionNode(NodeKnowledge.of(ALLIANCE, options, allowed_senders(options)))
    ego, by_c = Arrival("ego", MESSAGES["ego"].to_bytes(), 0), Signer(keys, "c")
    claim = by_c.sign(MESSAGES["b"].to_bytes(), 0)
    outcome = node.step(request_at(0), [ego, Arrival("c", claim, 0), Arrival("b", claim, 0)])
    assert outcome.used == ("ego",)
    assert [(one.agent_id, one.reason) for one in outcome.rejected] == [("c", "wrong sender"), ("b", "wrong sender")]


def test_a_message_for_several_regions_is_used_in_each_and_a_replay_in_none(keys: Path) -> None:
    add_agents(keys, ["ego"], LONG_AGO, None)
    options, recorded = signed(keys, RunOptions(region_m=16.0, late="drop")), list[bytes]()

    def replay(deliver: Callable[..., None], record: MessageRecord, data: bytes) -> None:
        if record.agent_id == "b":
            recorded.append(data)
            data = recorded[0]
        deliver(record, data)

    plain = run(replace(options, keys=None), Without(frozenset((tick, "b") for tick in range(1, 6))))
    results = run(options, on_the_way=replay)
    assert kinds_of(results) == ["used"] + ["rejected: replayed"] * 5 and same_boxes(results, plain)


def test_a_running_simulation_revokes_a_key_and_takes_a_new_one(keys: Path) -> None:
    def between(tick: int) -> None:
        if tick == 1:
            revoke_keys(keys, ["b"], now())
        if tick == 3:
            roll_keys(keys, ["b"], now(), HOUR, None)

    results = run(signed(keys), between=between)
    assert kinds_of(results) == ["used", "used", "rejected: key revoked", "rejected: key revoked", "used", "used"]


def test_keys_are_rolled_over_without_a_gap(keys: Path) -> None:
    used: list[bytes] = []

    def look(deliver: Callable[..., None], record: MessageRecord, data: bytes) -> None:
        if record.agent_id == "b":
            used.append(Envelope.of(data).key_id)
        deliver(record, data)

    def between(tick: int) -> None:
        if tick in (1, 3):
            roll_keys(keys, ["b"], now(), HOUR, None)

    late = LinkSpec.parse("delay:150").network(5)  # so messages of the old key arrive after the roll-over
    options = signed(keys, RunOptions())
    results = run(options, late, on_the_way=look, between=between)
    assert not any(result.late_rejections for result in results) and kinds_of(results) == ["late"] * 6
    assert [used.index(key_id) for key_id in used] == [0, 0, 2, 2, 4, 4]
    assert same_boxes(results, run(RunOptions(), LinkSpec.parse("delay:150").network(5)))


def test_a_repeated_run_takes_its_own_messages_and_none_of_the_first(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are at the same simulated times, and the second has forgotten what the first has used."""
    monkeypatch.setattr(verifier, "CLOCK_TOLERANCE_S", 0.0)
    recorded: list[bytes] = []

    def record_all(deliver: Callable[..., None], record: MessageRecord, data: bytes) -> None:
        recorded.append(data) if record.agent_id == "b" else None
        deliver(record, data)

    def replay_all(deliver: Callable[..., None], record: MessageRecord, data: bytes) -> None:
        deliver(record, recorded[record.tick] if record.agent_id == "b" else data)

    assert kinds_of(run(signed(keys), on_the_way=record_all)) == ["used"] * 6
    assert kinds_of(run(signed(keys))) == ["used"] * 6
    assert kinds_of(run(signed(keys), on_the_way=replay_all)) == ["rejected: replayed"] * 6


def test_a_run_whose_allow_list_cannot_be_read_does_not_begin(keys: Path) -> None:
    allow_list_path(keys).write_text("agents: 3")
    with pytest.raises(UserError, match=r"allowed\.yaml"):
        run(signed(keys))
    with pytest.raises(UserError, match="heal keys new"):
        run(signed(keys / "nowhere"))


def test_a_signed_message_is_verified_before_its_checksum_is(keys: Path) -> None:
    """The message's own content is not looked at: one that is damaged and not signed is refused for its signature."""
    options = signed(keys)
    data = bytearray(Signer(keys, "b").sign(MESSAGES["b"].to_bytes(), 0))
    data[ENVELOPE_BYTES + 8 : ENVELOPE_BYTES + 12] = struct.pack("<I", 2**31)
    node = FusionNode(NodeKnowledge.of(ALLIANCE, options, allowed_senders(options)))
    assert node.step(request_at(0), [Arrival("b", bytes(data), 0)]).rejected[0].reason == "bad signature"
    damaged = Signer(keys, "b").sign(bytes(data[ENVELOPE_BYTES:]), 0)
    assert node.step(request_at(0), [Arrival("b", damaged, 0)]).rejected[0].reason == "malformed"


def test_arrays_stay_where_they_are_in_the_received_bytes(keys: Path) -> None:
    data = Signer(keys, "b").sign(MESSAGES["b"].to_bytes(), 0)
    message = Message.from_bytes(Envelope.of(data).message)
    assert not message.maps[0].flags.owndata and (message.maps[0] == MESSAGES["b"].maps[0]).all()
