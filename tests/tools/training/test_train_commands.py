"""The commands of training check first and write afterwards; a repeated command goes on, with another rate if one is given."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from heal.agent_model import AgentModel
from heal.alliance import AllianceError, TrainingRecord, load_alliance
from heal.collab_model import CollabModel
from heal.config import ConfigError, save_config
from heal.datasets.dataset import DatasetError, DatasetSummary
from heal.datasets.in_memory import ScenesInMemory
from heal.datasets.split_names import NoSplitError
from heal.defence import recording
from heal.errors import UserError
from heal.tools.train import save_alliance
from heal.tools.training import job, validator
from heal.tools.training.checkpoint import load_best, load_weights
from heal.training.config import TrainingConfig
from heal.training.validation import ValidationScore
from tests.heal.networks import AGENT, small_model
from tests.tools.command import run_command
from tests.tools.training.small_training import SETTINGS, SOURCE

SHORT = replace(SETTINGS, training=replace(SETTINGS.training, epochs=1))


class _Town(ScenesInMemory):
    """Scenes in memory that the commands take for a data set."""

    summary = DatasetSummary("OPV2V", Path("town"), "train", 1, len(SOURCE), 1)
    listed = ScenesInMemory.outline


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the settings of a base and a type; every data set holds the same scenes, without a read from disk.

    There is every split but "validate".
    """
    town = _Town(SOURCE.scenes)

    def open_town(root: Path, split: str, **_: object) -> _Town:
        if split == "validate":
            raise NoSplitError(root / split, "no such split")
        if split == "damaged":
            raise DatasetError(root / split, "no frame")
        return town

    monkeypatch.setattr("heal.tools.shared.sources.open_dataset", open_town)
    monkeypatch.setattr("heal.tools.training.scenes.choose_scenes", lambda source, scenes, *_: (list(scenes), source.summary))
    monkeypatch.setattr("heal.tools.train.draw_predictions", lambda *_: None)
    save_config(SHORT, tmp_path / "base.yaml")
    save_config(AGENT, tmp_path / "m2.yaml")
    (tmp_path / "agent.yaml").write_text(
        "loss: {occupancy_weights: [0.4, 0.2]}\ntraining: {epochs: 1, batch_scenes: 2, workers: 0}\n"
    )
    return tmp_path


def _base(folder: Path, *more: object) -> str:
    paths = ("--data", folder / "town", "--config", folder / "base.yaml", "--out", folder / "run")
    return run_command("train", "base", *paths, "--device", "cpu", *more)


def _agent(folder: Path, base: Path, out: Path, *more: object) -> str:
    paths = (
        "--type",
        folder / "m2.yaml",
        "--base",
        base,
        "--data",
        folder / "town",
        "--config",
        folder / "agent.yaml",
        "--out",
        out,
    )
    return run_command("train", "agent", *paths, "--device", "cpu", *more)


def _contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def _steps(run: Path) -> int:
    return int(torch.load(run / "checkpoint.pt", weights_only=True)["step"])


def test_a_restart_keeps_the_types_of_others_and_the_data(folder: Path) -> None:
    _base(folder)
    run = folder / "run"
    _agent(folder, run / "alliance", run / "alliance")
    (run / "town").mkdir()
    (run / "town" / "scene.pcd").write_text("points")
    kept = {name: data for name, data in _contents(run).items() if name.startswith(("alliance/m2", "town"))}
    _base(folder, "--restart", "--set", "training.seed=1")
    assert len(kept) == 3 and {name: data for name, data in _contents(run).items() if name in kept} == kept
    alliance = load_alliance(run / "alliance")
    assert alliance.agent_names == ("m1",) and "m2 is aligned to the base" in alliance.foreign["m2"]
    with pytest.raises(ConfigError, match=r"another base.*--restart"):
        _agent(folder, run / "alliance", run / "alliance")
    _agent(folder, run / "alliance", run / "alliance", "--restart")
    assert load_alliance(run / "alliance").agent_names == ("m1", "m2")


def test_trainings_record_honest_maps_of_their_types_and_nothing_else_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alliance = folder / "run" / "alliance"
    assert "no maps of m1 are recorded for the defence" in " ".join(_base(folder).split())
    before, card = _contents(alliance), load_alliance(alliance).agent_card("m1")
    monkeypatch.setattr(recording, "_FEWEST_MAPS", 9)
    _base(folder)
    recorded = load_alliance(alliance).statistics_of("m1")
    assert card.statistics is None and recorded is not None and recorded.maps == 9
    assert load_alliance(alliance).agent_card("m1") == replace(card, statistics=recorded)
    assert {name for name, data in _contents(alliance).items() if before.get(name) != data} == {"m1/agent.yaml"}
    assert "9 maps of m2 are recorded for the defence" in " ".join(_agent(folder, alliance, alliance).split())
    found = load_alliance(alliance).statistics_of("m2")
    assert found is not None and found.maps == 9 and found != recorded


def test_a_restart_deletes_nothing_if_the_data_cannot_be_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _base(folder)
    before = _contents(folder)
    monkeypatch.undo()
    with pytest.raises(DatasetError):
        _base(folder, "--restart")
    assert _contents(folder) == before


def test_a_restart_in_the_folder_of_all_runs_is_refused(folder: Path) -> None:
    (folder / "run" / "town").mkdir(parents=True)
    (folder / "run" / "town" / "scene.pcd").write_text("points")
    before = _contents(folder)
    with pytest.raises(ConfigError, match=r"run holds town, but no config\.yaml"):
        _base(folder, "--restart")
    assert _contents(folder) == before


def test_a_stopped_training_goes_on_with_another_rate_and_more_epochs_and_says_so(folder: Path) -> None:
    _base(folder)
    before = (folder / "run" / "metrics.jsonl").read_text()
    with (folder / "run" / "metrics.jsonl").open("a") as log:
        log.write('{"step": 2, "ep')
    said = _base(folder, "--set", "training.learning_rate=1e-4", "--set", "training.epochs=2")
    assert "training.learning_rate 0.01 -> 0.0001" in " ".join(said.split()) and _steps(folder / "run") == 4
    lines = (folder / "run" / "metrics.jsonl").read_text()
    assert lines.startswith(before) and len(lines.splitlines()) == 4
    assert load_alliance(folder / "run" / "alliance").card.training.epochs == 2
    with pytest.raises(ConfigError, match=r"training\.max_agents 5 -> 3"):
        _base(folder, "--set", "training.max_agents=3")


def test_a_type_is_not_aligned_to_one_base_and_written_beside_another(folder: Path) -> None:
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        save_alliance(folder / name, small_model(), SETTINGS, TrainingRecord())
    before = _contents(folder)
    for command in ("agent", "--type", folder / "m2.yaml"), ("agents", folder / "m2.yaml"):
        paths = ("--base", folder / "one", "--data", folder / "town", "--config", folder / "agent.yaml", "--out", folder / "two")
        with pytest.raises(AllianceError, match="two holds the base"):
            run_command("train", *command, *paths, "--device", "cpu")
    assert _contents(folder) == before and {path.name for path in folder.iterdir()} == {
        "agent.yaml",
        "base.yaml",
        "m2.yaml",
        "one",
        "two",
    }


def test_an_alignment_can_start_from_the_type_beside_another_base(folder: Path) -> None:
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        save_alliance(folder / name, small_model(), SETTINGS, TrainingRecord())
    (folder / "m2.yaml").rename(folder / "m1.yaml")
    _set_trust(folder / "two", "m1", 0.3)
    _align_m1(folder, "still", "--init", folder / "two", "--set", "training.learning_rate=0")
    _align_m1(folder, "anew", "--set", "training.learning_rate=0")
    weights = {name: dict(load_alliance(folder / name).agent("m1").named_parameters()) for name in ("one", "two", "still", "anew")}
    assert [load_alliance(folder / name).trust_of("m1") for name in ("still", "anew")] == [0.3, 1.0]
    for key, values in weights["two"].items():
        assert torch.equal(values, weights["still"][key])
    assert not all(torch.equal(values, weights["anew"][key]) for key, values in weights["two"].items())
    (folder / "m1.yaml").rename(folder / "m3.yaml")
    _align("m3", folder, "other", "--init", folder / "two" / "m1", "--set", "training.learning_rate=0")
    other = load_alliance(folder / "other")
    assert (other.trust_of("m3"), other.agent_names) == (0.3, ("m3",))
    for key, values in dict(other.agent("m3").named_parameters()).items():
        assert torch.equal(values, weights["two"][key])


def test_a_type_that_starts_from_itself_keeps_its_trust_and_another_start_is_another_training(folder: Path) -> None:
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        save_alliance(folder / name, small_model(), SETTINGS, TrainingRecord(agent_types=("m7",)))
    (folder / "m2.yaml").rename(folder / "m1.yaml")
    _set_trust(folder / "one", "m1", 0.1)
    _align_m1(folder, "one", "--init", folder / "one")
    assert load_alliance(folder / "one").trust_of("m1") == 0.1
    with pytest.raises(ConfigError, match=r"other settings: training.started_from"):
        _align_m1(folder, "one", "--init", folder / "two")


def test_a_repeated_alignment_keeps_a_trust_set_by_hand(folder: Path) -> None:
    save_alliance(folder / "one", small_model(), SETTINGS, TrainingRecord())
    (folder / "m2.yaml").rename(folder / "m1.yaml")
    _align_m1(folder, "beside")
    _set_trust(folder / "beside", "m1", 0.2)
    _align_m1(folder, "beside")
    assert load_alliance(folder / "beside").trust_of("m1") == 0.2


def test_a_missing_package_of_weights_is_reported_before_anything_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_alliance(folder / "one", small_model(), SETTINGS, TrainingRecord())
    (folder / "m2.yaml").rename(folder / "m1.yaml")

    def missing(self: AgentModel) -> None:
        raise ConfigError("encoder.pretrained=imagenet: not installed")

    monkeypatch.setattr(AgentModel, "load_pretrained", missing)
    before = sorted(folder.rglob("*"))
    with pytest.raises(ConfigError, match=r"agents\.m1\.encoder\.pretrained=imagenet: not installed"):
        _align_m1(folder, "beside")
    assert sorted(folder.rglob("*")) == before


def test_an_alignment_starts_from_no_other_networks_and_says_so_before_anything_is_written(folder: Path) -> None:
    save_alliance(folder / "one", small_model(), SETTINGS, TrainingRecord())
    (folder / "m2.yaml").unlink()
    save_config(replace(AGENT, encoder=replace(AGENT.encoder, channels=(4,))), folder / "m1.yaml")
    with pytest.raises(UserError, match=r"the type that m1 starts from .* has other networks than m1"):
        _align_m1(folder, "new", "--init", folder / "one")
    (folder / "m1.yaml").rename(folder / "m9.yaml")
    with pytest.raises(AllianceError, match="no agent type 'm9'"):
        _align_m1(folder, "new", "--init", folder / "one", "--type", folder / "m9.yaml")
    assert {path.name for path in folder.iterdir()} == {"agent.yaml", "base.yaml", "m9.yaml", "one"}


def _set_trust(alliance: Path, name: str, trust: float) -> None:
    save_config(replace(load_alliance(alliance).agent_card(name), trust=trust), alliance / name / "agent.yaml")


def _align_m1(folder: Path, out: str, *more: object) -> str:
    return _align("m1", folder, out, *more)


def _align(name: str, folder: Path, out: str, *more: object) -> str:
    paths = (
        "--type",
        folder / f"{name}.yaml",
        "--base",
        folder / "one",
        "--data",
        folder / "town",
        "--config",
        folder / "agent.yaml",
    )
    return run_command("train", "agent", *paths, "--out", folder / out, "--device", "cpu", *more)


def test_weights_that_cannot_be_stored_are_refused_before_anything_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = job._new_networks

    def make_expanded(settings: TrainingConfig) -> CollabModel:
        model = make(settings)
        model.agent("m1").encoder.register_buffer("heights", torch.ones(1).expand(4))
        return model

    monkeypatch.setattr(job, "_new_networks", make_expanded)
    with pytest.raises(AllianceError, match=r"agents\.m1\.encoder\.heights share memory"):
        _base(folder)
    assert not (folder / "run").exists()


def test_without_a_validation_split_the_last_weights_are_the_result_and_the_run_says_so(folder: Path) -> None:
    said = " ".join(_base(folder).split())
    assert "no validation, so the last weights are the result" in said and "no such split" in said
    assert load_alliance(folder / "run" / "alliance").card.training.validation is None
    assert not (folder / "run" / "best.pt").exists()


def test_the_weights_of_the_best_epoch_are_handed_on_and_the_card_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = [0.5, 0.3, 0.4, 0.2, 0.6]
    monkeypatch.setattr(validator, "validate", lambda *_: ValidationScore(losses.pop(0), {0.5: 0.25, 0.7: None}))
    run, more = folder / "run", ("--val-split", "held-out", "--set")
    said = " ".join(_base(folder, *more, "training.epochs=3").split())
    assert "weights after epoch 2 of 3, the best of the validations: loss 0.300, AP@0.5 0.250, AP@0.7 n/a" in said
    alliance = load_alliance(run / "alliance")
    record, best = alliance.card.training, small_model()
    assert record.epochs == 3 and record.validation == load_best(run / "best.pt", best)
    assert record.validation and (record.validation.epoch, record.validation.loss) == (2, 0.3)
    _assert_weights(alliance.base, best.base)
    _assert_weights(alliance.agent("m1"), best.agent("m1"))
    assert not all(torch.equal(weight, last) for weight, last in zip(best.parameters(), _last(run).parameters(), strict=True))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["validation"]["loss"] for row in rows if "validation" in row] == [0.5, 0.3, 0.4]
    _agent(folder, run / "alliance", run / "alliance", *more, "training.epochs=2")
    best = CollabModel(small_model().base, {"m2": small_model().agent("m1")})
    card = load_alliance(run / "alliance").agent_card("m2").training
    assert card.validation == load_best(folder / "run" / "alliance-m2" / "best.pt", best) and card.validation.epoch == 1
    _assert_weights(load_alliance(run / "alliance").agent("m2"), best.agent("m2"))


def test_an_impatient_training_says_how_far_it_went(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = [0.1, 0.2, 0.3]
    monkeypatch.setattr(validator, "validate", lambda *_: ValidationScore(losses.pop(0), {0.5: None}))
    more = ("--val-split", "held-out", "--set", "training.epochs=9", "--set", "training.patience=2")
    for _ in range(2):
        assert "weights after epoch 1 of 3" in " ".join(_base(folder, *more).split())
    assert load_alliance(folder / "run" / "alliance").card.training.epochs == 3 and losses == [] and _steps(folder / "run") == 6


def test_a_validation_that_cannot_be_is_refused_before_anything_is_written(folder: Path) -> None:
    for more, message in (
        (("--val-split", "validate"), "no such split"),
        (("--val-split", "damaged"), r"no frame.*validate_every_epochs=0 trains without"),
        (("--set", "training.patience=3"), r"patience=3 waits for validations, but there are none.*no such split"),
    ):
        with pytest.raises(UserError, match=message):
            _base(folder, *more)
    assert not (folder / "run").exists()
    said = " ".join(_base(folder, "--val-split", "damaged", "--set", "training.validate_every_epochs=0").split())
    assert "no validation, so the last weights are the result: training.validate_every_epochs is 0" in said


def _assert_weights(one: nn.Module, other: nn.Module) -> None:
    assert [name for name, tensor in one.state_dict().items() if not torch.equal(tensor, other.state_dict()[name])] == []


def _last(run: Path) -> nn.Module:
    model = small_model()
    load_weights(run / "checkpoint.pt", model)
    return model
