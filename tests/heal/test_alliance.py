"""An alliance on disk: written whole, opened despite a type that does not belong to it, with weights that layers share."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from heal.alliance import AgentCard, AllianceError, TrainingRecord, load_alliance, save_agent, save_base
from heal.config import save_config
from heal.opencood.run import ImportedRun
from heal.storage.parts import copy_part, hash_content, read_card
from heal.tools.import_runs import join_runs
from heal.tools.shared.type_argument import base_type
from heal.training.config import TrainingConfig
from tests.heal.networks import AGENT, BASE, small_model
from tests.tools.command import run_command


def _save(path: Path, seed: int = 0) -> str:
    """Write an alliance of a base and m1; return the hash of the base."""
    torch.manual_seed(seed)
    model = small_model()
    base_hash = save_base(path, model.base, TrainingRecord())
    save_agent(path, "m1", model.agent("m1"), base_hash, TrainingRecord())
    return base_hash


def _contents(path: Path) -> dict[str, bytes]:
    """Return the bytes of all files under a folder, by relative path."""
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("name", ["base", "compressor", ".m1", ""])
def test_a_type_is_not_written_over_another_part_of_an_alliance(tmp_path: Path, name: str) -> None:
    base_hash = _save(tmp_path)
    before = _contents(tmp_path)
    with pytest.raises(AllianceError, match="an agent type cannot be called"):
        save_agent(tmp_path, name, small_model().agent("m1"), base_hash, TrainingRecord())
    with pytest.raises(AllianceError, match="an agent type cannot be called"):
        TrainingConfig(agents={name: AGENT})
    assert _contents(tmp_path) == before


def test_a_type_of_another_base_and_one_without_a_record_are_reported_and_refused_when_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _save(tmp_path / "one")
    _save(tmp_path / "two", seed=1)
    shutil.copytree(tmp_path / "two" / "m1", tmp_path / "one" / "stranger")
    shutil.copytree(tmp_path / "one" / "m1", tmp_path / "one" / "torn")
    (tmp_path / "one" / "torn" / "agent.yaml").write_bytes(b"hash: '12\xff")
    for alliance in (load_alliance(tmp_path / "one"), load_alliance(tmp_path / "one").for_inference()):
        assert alliance.agent_names == ("m1",) and set(alliance.foreign) == {"stranger", "torn"}
        assert alliance.agent("m1").config == small_model().agent("m1").config
        with pytest.raises(AllianceError, match="stranger is aligned to the base"):
            alliance.agent("stranger")
        with pytest.raises(AllianceError, match=r"torn.agent\.yaml"):
            alliance.agent("torn")
    assert [record.levelname for record in caplog.records if "stranger" in record.message] == ["WARNING"]
    described = run_command("info", tmp_path / "one")
    assert "stranger" in described and "torn" in described


def test_a_foreign_type_is_neither_overwritten_by_an_import_nor_taken_by_default(tmp_path: Path) -> None:
    _save(tmp_path / "one")
    _save(tmp_path / "two", seed=1)
    shutil.rmtree(tmp_path / "one" / "m1")
    (tmp_path / "two" / "m1").replace(tmp_path / "one" / "m2")
    alliance = load_alliance(tmp_path / "one")
    with pytest.raises(AllianceError, match="no agent type is aligned to its base"):
        base_type(alliance)
    model, before = small_model(), _contents(tmp_path / "one")
    run = ImportedRun(BASE, {"m2": AGENT}, alliance.base.state_dict(), {"m2": model.agent("m1").state_dict()}, ())
    with pytest.raises(AllianceError, match="called m2"):
        join_runs([run], tmp_path / "one", ["run"])
    assert _contents(tmp_path / "one") == before


def test_a_type_is_not_written_beside_another_base(tmp_path: Path) -> None:
    other = _save(tmp_path / "one", seed=1)
    _save(tmp_path / "two")
    before = _contents(tmp_path / "two")
    with pytest.raises(AllianceError, match="holds the base"):
        save_agent(tmp_path / "two", "m1", small_model().agent("m1"), other, TrainingRecord())
    assert _contents(tmp_path / "two") == before


def test_a_full_disk_leaves_the_old_alliance_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base_hash = _save(tmp_path / "alliance")
    before = _contents(tmp_path)

    def fail(_: Any, path: Path) -> None:
        path.write_bytes(b"a part")
        raise OSError(28, "No space left on device")

    torch.manual_seed(1)
    for name in ("safetensors.torch.save_file", "heal.storage.parts.save_config"):
        with monkeypatch.context() as patched:
            patched.setattr(name, fail)
            with pytest.raises(OSError, match="No space"):
                save_agent(tmp_path / "alliance", "m1", small_model().agent("m1"), base_hash, TrainingRecord())
            with pytest.raises(OSError, match="No space"):
                save_base(tmp_path / "alliance", small_model().base, TrainingRecord())
        assert _contents(tmp_path) == before


def test_a_base_is_copied_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _save(tmp_path / "one")

    def fail(_: Path, target: Path) -> None:
        target.mkdir(parents=True)
        (target / "base.yaml").write_text("hash: 12")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr("shutil.copytree", fail)
        copy_part(tmp_path / "one", tmp_path / "two", "base")
    assert _contents(tmp_path / "two") == {}
    copy_part(tmp_path / "one", tmp_path / "two", "base")
    assert _contents(tmp_path / "two" / "base") == _contents(tmp_path / "one" / "base")


@pytest.mark.parametrize("half", [False, True])
def test_weights_that_layers_share_come_back_equal(tmp_path: Path, half: bool) -> None:
    model = small_model()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.bias = part.weight  # one parameter, two names
            statistics = torch.rand(part.num_features + 3)
            part.running_mean, part.running_var = statistics[:-3], statistics[3:]  # two parts of one tensor, which overlap
    base_hash = save_base(tmp_path, model.base, TrainingRecord(), half)
    save_agent(tmp_path, "m1", model.agent("m1"), base_hash, TrainingRecord(), half)
    alliance = load_alliance(tmp_path)
    for written, read in ((model.base, alliance.base), (model.agent("m1"), alliance.agent("m1"))):
        for name, tensor in written.state_dict().items():
            expected = tensor.half().float() if half and tensor.ndim > 1 else tensor
            assert torch.equal(read.state_dict()[name], expected), name


def test_a_tensor_that_cannot_be_read_back_is_refused_by_name(tmp_path: Path) -> None:
    agent = small_model().agent("m1")
    agent.encoder.register_buffer("heights", torch.ones(1).expand(4))
    with pytest.raises(AllianceError, match=r"encoder\.heights share memory.*clone"):
        save_agent(tmp_path, "m1", agent, "0" * 64, TrainingRecord())
    assert not (tmp_path / "m1").exists()


def test_trust_in_a_type_is_read_from_its_record_without_a_part_in_its_hash(tmp_path: Path) -> None:
    _save(tmp_path)
    record = tmp_path / "m1" / "agent.yaml"
    text = record.read_text()
    assert "trust: 1.0\n" in text and load_alliance(tmp_path).trust_of("m1") == 1.0
    assert "m1: trust" not in run_command("info", tmp_path)
    record.write_text(text.replace("trust: 1.0\n", ""))  # as alliances were saved before types had a trust
    assert load_alliance(tmp_path).trust_of("m1") == 1.0
    record.write_text(text.replace("trust: 1.0\n", "trust: 0.3\n"))
    alliance = load_alliance(tmp_path)
    assert alliance.trust_of("m1") == 0.3 and alliance.for_inference().trust_of("m1") == 0.3
    assert alliance.agent("m1").config == AGENT
    assert "m1: trust" in (described := run_command("info", tmp_path)) and "0.3" in described


@pytest.mark.parametrize("trust", ["0.0", "1.5", ".nan"])
def test_a_trust_out_of_range_leaves_the_type_out_with_the_reason(tmp_path: Path, trust: str) -> None:
    _save(tmp_path)
    record = tmp_path / "m1" / "agent.yaml"
    record.write_text(record.read_text().replace("trust: 1.0\n", f"trust: {trust}\n"))
    assert "trust: expected more than 0 and at most 1" in load_alliance(tmp_path).foreign["m1"]


def _claim(path: Path, settings: Any) -> None:
    """Write other settings into the record of m1, under a hash that is right for its weights."""
    card, weights = read_card(AgentCard, path / "m1" / "agent.yaml"), load_file(path / "m1" / "agent.safetensors")
    save_config(replace(card, config=settings, hash=hash_content(weights, settings)), path / "m1" / "agent.yaml")


CLAIMS = {
    "wide": {"channels": (1_000_000,)},
    "wider than memory": {"channels": (1 << 40,)},
    "deep": {"blocks": (1_000_000,)},
    "of no stage": {"strides": ()},
    "of a negative width": {"channels": (-8,)},
}


@pytest.mark.parametrize("change", CLAIMS.values(), ids=CLAIMS)
def test_settings_that_the_weights_do_not_fit_make_no_network(tmp_path: Path, change: dict[str, Any]) -> None:
    """The record was written by somebody, and its hash is right: the network would take minutes to make, or all memory."""
    _save(tmp_path)
    _claim(tmp_path, replace(AGENT, backbone=replace(AGENT.backbone, **change)))
    with pytest.raises(AllianceError, match="do not fit the configuration"):
        load_alliance(tmp_path).agent("m1")


def test_a_network_is_made_only_for_the_right_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _save(tmp_path)
    card = tmp_path / "m1" / "agent.yaml"
    card.write_text(card.read_text().replace("blocks:\n    - 1", "blocks:\n    - 2"))
    alliance = load_alliance(tmp_path)
    monkeypatch.setattr("heal.alliance.AgentModel", pytest.fail)
    with pytest.raises(AllianceError, match="content hash"):
        alliance.agent("m1")
