"""`heal alliance add`: an aligned type is copied; one of another base is added on purpose, marked, and used where it is named."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from heal.agents.local_runtime import LocalRuntime
from heal.agents.options import RunOptions
from heal.alliance import AllianceError, TrainingRecord, load_alliance, save_agent, save_base
from heal.config import load_yaml
from heal.tools.shared.type_argument import parse_types
from tests.agents.tiny_run import TinyAlliance, TinySource, save_tiny_alliance
from tests.heal.networks import AGENT, BASE, small_model
from tests.tools.command import run_command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with an alliance, one of the same base with another type, and one of another base."""
    for name, seed in (("ours", 0), ("theirs", 0), ("single", 1)):
        save_tiny_alliance(tmp_path / name, seed)
    (tmp_path / "theirs" / "m1").rename(tmp_path / "theirs" / "m5")
    return tmp_path


def test_an_aligned_type_is_copied_as_it_is(folder: Path) -> None:
    assert "added m5" in run_command("alliance", "add", folder / "ours", folder / "theirs" / "m5")
    ours = load_alliance(folder / "ours")
    assert ours.agent_names == ("m1", "m5") and not ours.unaligned
    for name in ("agent.yaml", "agent.safetensors"):
        assert (folder / "ours" / "m5" / name).read_bytes() == (folder / "theirs" / "m5" / name).read_bytes()
    assert "m5" in run_command("alliance", "verify", folder / "ours")


def test_a_type_of_another_base_is_added_on_purpose_only_and_keeps_the_hash_of_its_base(folder: Path) -> None:
    before = load_alliance(folder / "single")
    with pytest.raises(AllianceError, match=r"align it with .*, or add it as it is with --unaligned"):
        run_command("alliance", "add", folder / "ours", folder / "single" / "m1", "--as", "m1_single")
    assert not (folder / "ours" / "m1_single").exists()
    said = run_command("alliance", "add", folder / "ours", folder / "single" / "m1", "--as", "m1_single", "--unaligned")
    assert f"aligned to the base {before.base_hash[:12]} and not" in " ".join(said.split())
    card = load_yaml(folder / "ours" / "m1_single" / "agent.yaml")
    assert (card["unaligned"], card["base_hash"]) == (True, before.base_hash)
    assert before.base_hash != load_alliance(folder / "ours").base_hash
    described = "".join(run_command("info", folder / "ours").split())
    assert "unaligned" in described and before.base_hash[:12] in described
    assert "marked as not aligned" in " ".join(run_command("alliance", "verify", folder / "ours").split())
    run_command("alliance", "pack", folder / "ours", "--out", folder / "ours.zip")
    run_command("alliance", "unpack", folder / "ours.zip", "--out", folder / "again")
    assert load_alliance(folder / "again").unaligned == {"m1_single"}


def test_an_unaligned_type_takes_part_only_where_it_is_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_command("alliance", "add", folder / "ours", folder / "single" / "m1", "--as", "apart", "--unaligned")
    ours, source = load_alliance(folder / "ours"), TinySource()
    assert ours.agent_names == ("m1",) and not ours.foreign and ours.for_inference().agent_names == ("m1",)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        types_of = parse_types("m1,apart", ours, source)
    assert "apart is not aligned to the base" in caplog.text
    with LocalRuntime(ours, source, types_of, options=RunOptions()) as runtime:
        [result] = runtime.run([0])
    records = [(record.agent_id, record.agent_type, record.status) for record in result.messages]
    assert records == [("ego", "m1", "used"), ("b", "apart", "used"), ("c", "m1", "used")]


def test_what_does_not_belong_is_refused(folder: Path) -> None:
    with pytest.raises(AllianceError, match=r"is aligned to the base of .*; add it without --unaligned"):
        run_command("alliance", "add", folder / "ours", folder / "theirs" / "m5", "--unaligned")
    for name in ("m1", "base", "compressor", ".hidden"):
        with pytest.raises(AllianceError, match=r"choose another name with --as|an agent type cannot be called"):
            run_command("alliance", "add", folder / "ours", folder / "theirs" / "m5", "--as", name)
    weights = folder / "theirs" / "m5" / "agent.safetensors"
    weights.write_bytes((folder / "single" / "m1" / "agent.safetensors").read_bytes())
    with pytest.raises(AllianceError, match="content hash"):
        run_command("alliance", "add", folder / "ours", folder / "theirs" / "m5")
    with pytest.raises(AllianceError, match=r"agent\.yaml: "):
        run_command("alliance", "add", folder / "ours", folder / "theirs")
    assert load_alliance(folder / "ours").agent_names == ("m1",)


def test_maps_of_other_channels_are_refused(folder: Path) -> None:
    wide = save_base(folder / "wide", small_model().base, TrainingRecord())
    save_agent(folder / "wide", "m1", small_model().agent("m1"), wide, TrainingRecord())
    assert BASE.in_channels == AGENT.backbone.out_channels == TinyAlliance().base.config.in_channels
    run_command("alliance", "add", folder / "ours", folder / "wide" / "m1", "--as", "wide", "--unaligned")
    assert load_alliance(folder / "ours").unaligned == {"wide"}
