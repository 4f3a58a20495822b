"""`heal keys`: keys for the agents of a run, which `heal simulate` signs with; none is overwritten."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from heal.errors import UserError
from heal.identity.allow_list import AllowList, now
from heal.tools.shared.paths import CONFIGS
from tests.tools.command import run_command

ALLIANCE = CONFIGS / "demo" / "alliance"
TOWN = ("--preset", "test", "--ticks", 2)


def allowed(folder: Path) -> AllowList:
    return AllowList.read(folder / "allowed.yaml")


def kinds_of(folder: Path) -> set[tuple[str, str]]:
    """Return status and reason of every message over a link."""
    ticks = [json.loads(line) for line in (folder / "ticks.jsonl").read_text().splitlines()]
    return {(message["status"], message["reason"]) for tick in ticks for message in tick["messages"] if not message["own"]}


def test_a_simulation_is_signed_with_the_keys_of_its_town(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    run = ("simulate", "--alliance", ALLIANCE, "--runtime", "local", *TOWN, "--set", "run.comm_range_m=1000", "--set")
    said = run_command("keys", "new", keys, *TOWN)
    agents = allowed(keys).agents
    assert len(agents) > 1 and f"new keys of {len(agents)} agents: {', '.join(agents)}" in said
    run_command(*run, f"run.keys={keys}", "--out", tmp_path / "signed")
    assert kinds_of(tmp_path / "signed") == {("used", "")}
    run_command("keys", "revoke", keys, "--agents", ",".join(agents))
    run_command(*run, f"run.keys={keys}", "--out", tmp_path / "revoked")
    assert kinds_of(tmp_path / "revoked") == {("rejected", "key revoked")}


def test_keys_are_made_rolled_over_revoked_and_listed(tmp_path: Path) -> None:
    run_command("keys", "new", tmp_path, "--agents", "-1,b", "--types", "m1,m3", "--days", 30)
    run_command("keys", "new", tmp_path, "--agents", "c")
    [first] = allowed(tmp_path).agents["-1"].keys
    assert list(allowed(tmp_path).agents) == ["-1", "b", "c"] and allowed(tmp_path).agents["-1"].types == ("m1", "m3")
    assert first.valid_from is not None and first.valid_until == first.valid_from + timedelta(days=30)
    assert first.problem(now()) is None and allowed(tmp_path).agents["c"].keys[0].valid_until is None
    run_command("keys", "roll", tmp_path, "--agents", "-1", "--overlap-s", 60)
    old, new = allowed(tmp_path).agents["-1"].keys
    assert old.public == first.public != new.public and new.problem(now()) is None
    assert old.valid_until is not None and old.valid_until <= now() + timedelta(seconds=60)
    run_command("keys", "revoke", tmp_path, "--agents", "b")
    text = " ".join(run_command("keys", "list", tmp_path).split())
    assert "revoked" in text and all(key.key_id.hex()[:16] in text for key in (old, new))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("new", "--agents", "a,b"), "a have keys already"),
        (("new", "--agents", "b,"), "expected ids separated by commas"),
        (("new", "--agents", "b,b"), "expected ids separated by commas"),
        (("roll", "--agents", "b"), "no agent 'b', there are a"),
        (("revoke", "--agents", ""), "expected ids separated by commas"),
    ],
)
def test_mistakes_are_named_and_change_nothing(tmp_path: Path, arguments: tuple[str, ...], expected: str) -> None:
    run_command("keys", "new", tmp_path, "--agents", "a")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    with pytest.raises(UserError, match=expected):
        run_command("keys", arguments[0], tmp_path, *arguments[1:])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        run_command("keys", "list", tmp_path / "nowhere")
