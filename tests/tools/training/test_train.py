"""Stage 1: the loss falls, a resumed training ends with the same weights, and a loss that is NaN stops the training."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from heal.agent_model import AgentConfig, AgentModel
from heal.alliance import AllianceError, TrainingRecord, load_alliance
from heal.collab_model import CollabModel
from heal.config import ConfigError
from heal.datasets.in_memory import ScenesInMemory
from heal.encoders.second import SecondConfig
from heal.errors import UserError
from heal.layers.backbone import BackboneConfig
from heal.tools.train import save_alliance
from heal.tools.training.loop import StepReport, train
from heal.tools.training.scenes import ScenesOfTraining
from heal.tools.training.settings import resolve_settings
from heal.tools.training.step_log import StepLog, last_row
from heal.training.batches import TrainingSteps
from heal.training.config import ScheduleConfig, TrainingConfig, learning_rate
from heal.training.drawing import draw_max_agents, draw_scene
from heal.training.replica import Replica
from heal.training.step import TrainingStoppedError
from heal.types import ObjectLabels, SensorChoice
from tests.heal.networks import AGENT, BASE, small_model, small_scene
from tests.tools.training.small_training import SETTINGS, SOURCE

LIDAR = {"m1": SensorChoice()}


def _train(out: Path, stop_after: int | None = None, settings: TrainingConfig = SETTINGS) -> tuple[CollabModel, list[StepReport]]:
    """Train a small model, interrupted after a step if one is given; return the model and the reports of its steps."""
    out.mkdir(exist_ok=True)
    torch.manual_seed(0)
    model, reports = small_model(), []

    def report(step: StepReport) -> None:
        reports.append(step)
        if step.step == stop_after:
            raise KeyboardInterrupt

    train(model, TrainingSteps(SOURCE, model, settings), settings, out, report)
    return model, reports


def test_the_loss_falls(tmp_path: Path) -> None:
    longer = replace(SETTINGS, training=replace(SETTINGS.training, epochs=40))
    _, reports = _train(tmp_path / "run", settings=longer)
    totals = [report.losses["total"] for report in reports]
    assert np.mean(totals[-4:]) < 0.5 * np.mean(totals[:4])


def test_types_of_different_encoders_learn_together(tmp_path: Path) -> None:
    sparse = AgentConfig(
        encoder=SecondConfig(voxel_m=(0.4, 0.4, 0.4), channels=(4, 4, 8), map_channels=4),
        backbone=BackboneConfig(blocks=(1,), strides=(1,), channels=AGENT.backbone.channels),
    )
    settings = replace(SETTINGS, agents={"m1": AGENT, "m3": sparse})
    torch.manual_seed(0)
    model = CollabModel(small_model().base, {name: AgentModel(agent, BASE.grid) for name, agent in settings.agents.items()})
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    reports: list[StepReport] = []
    train(model, TrainingSteps(SOURCE, model, settings), settings, tmp_path, reports.append)
    still = [name for name, tensor in model.named_parameters() if torch.equal(tensor, before[name])]
    assert still == [] and all(np.isfinite(report.losses["total"]) for report in reports)


@pytest.mark.parametrize("stop_after", [0, 3])
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path: Path, stop_after: int) -> None:
    straight, _ = _train(tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "resumed", stop_after)
    resumed, reports = _train(tmp_path / "resumed")
    assert reports[0].step == stop_after + 1
    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_kill_between_two_checkpoints_repeats_the_steps_after_the_first(tmp_path: Path) -> None:
    straight, _ = _train(tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "killed", 1)
    at_step_2 = (tmp_path / "killed" / "checkpoint.pt").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "killed", 4)
    # The files of a process that was killed while it wrote the later checkpoint.
    (tmp_path / "killed" / "checkpoint.pt").write_bytes(at_step_2)
    (tmp_path / "killed" / ".checkpoint.1.unfinished.pt").write_bytes(at_step_2[:100])
    resumed, reports = _train(tmp_path / "killed")
    assert reports[0].step == 2
    assert all(torch.equal(tensor, resumed.state_dict()[name]) for name, tensor in straight.state_dict().items())


def test_a_loss_that_is_nan_stops_the_training_with_the_scenes_and_advice(tmp_path: Path) -> None:
    model = small_model()
    with torch.no_grad():
        model.base.cls_head.weight.fill_(float("nan"))
    steps = TrainingSteps(SOURCE, model, SETTINGS)
    with pytest.raises(TrainingStoppedError, match=r"scene-\d.*learning_rate"):
        train(model, steps, SETTINGS, tmp_path, lambda _: None)


def test_a_step_has_the_same_batch_every_time() -> None:
    model = small_model().train()
    first, second = (TrainingSteps(SOURCE, model, SETTINGS)[3] for _ in range(2))
    assert first.scene_ids == second.scene_ids
    assert torch.equal(first.inputs.inputs["m1"].points, second.inputs.inputs["m1"].points)
    assert torch.equal(first.targets.regression, second.targets.regression)


def test_the_number_of_agents_is_drawn_from_one_upwards() -> None:
    source, rng, training = ScenesInMemory([small_scene(0, agents=4)]), np.random.default_rng(0), ScheduleConfig(max_agents=3)
    drawn = [draw_scene(source, 0, draw_max_agents(training, rng), LIDAR, training, rng).scene for _ in range(60)]
    assert {len(part.frames) for part in drawn} == {1, 2, 3}
    assert {part.outline.ego_id for part in drawn} == {"0"}
    assert {part.frames[1].agent_id for part in drawn if len(part.frames) > 1} == {"1", "2", "3"}
    any_ego = ScheduleConfig(random_ego=True)
    assert {draw_scene(source, 0, 3, LIDAR, any_ego, rng).scene.outline.ego_id for _ in range(60)} == {"0", "1", "2", "3"}
    assert draw_max_agents(ScheduleConfig(max_agents=3, random_agents=False), rng) == 3


def test_every_agent_gets_one_of_the_types_in_training() -> None:
    source, rng = ScenesInMemory([small_scene(0, agents=4)]), np.random.default_rng(0)
    drawn = [draw_scene(source, 0, 2, {"m1": SensorChoice(), "m2": SensorChoice()}, ScheduleConfig(), rng) for _ in range(40)]
    assert all(set(part.agent_types) == set(part.scene.outline.agent_ids) for part in drawn)
    assert {tuple(part.agent_types.values()) for part in drawn} == {("m1", "m1"), ("m1", "m2"), ("m2", "m1"), ("m2", "m2")}


def test_agents_out_of_communication_range_take_no_part() -> None:
    near, source = ScheduleConfig(comm_range_m=0.0), ScenesInMemory([small_scene(0, agents=3)])
    assert len(draw_scene(source, 0, 3, LIDAR, near, np.random.default_rng(0)).scene.frames) == 1


def test_a_training_can_be_of_vehicles_or_of_roadside_units_alone() -> None:
    frames = small_scene(0, agents=3).frames
    names = ("1", "2", "-1")
    renamed = tuple(replace(frame, agent_id=name) for frame, name in zip(frames, names, strict=True))
    scene = replace(
        small_scene(0, agents=3), outline=replace(small_scene(0, agents=3).outline, ego_id="1", agent_ids=names), frames=renamed
    )
    source, rng = ScenesInMemory([scene]), np.random.default_rng(0)
    for kind, expected in (("any", set(names)), ("vehicle", {"1", "2"}), ("roadside", {"-1"}), ("ego", {"1"})):
        training = ScheduleConfig(agents_of=kind, max_agents=3)
        assert set(draw_scene(source, 0, 3, LIDAR, training, rng).scene.outline.agent_ids) == expected
        anybody = replace(training, random_ego=True, ego_of="any")
        assert {draw_scene(source, 0, 1, LIDAR, anybody, rng).scene.outline.ego_id for _ in range(40)} == expected
        outline = ScenesOfTraining(source, training).outline(0)
        assert set(outline.agent_ids) == expected and outline.ego_id in expected
    with pytest.raises(UserError, match=r"agents_of=roadside"):
        draw_scene(ScenesInMemory([small_scene(0, agents=2)]), 0, 1, LIDAR, ScheduleConfig(agents_of="roadside"), rng)


def test_the_targets_of_a_single_agent_are_its_own_labels() -> None:
    scene = small_scene(0, agents=2, cars=3)
    seen = ObjectLabels(scene.objects.ids[:1], scene.objects.world_corners[:1])
    half_blind = ScenesInMemory([replace(scene, frames=(replace(scene.frames[0], objects=seen), scene.frames[1]))])
    counts = [len(draw_scene(half_blind, 0, n, LIDAR, ScheduleConfig(), np.random.default_rng(0)).scene.objects) for n in (1, 2)]
    assert counts == [1, 3]


def test_processes_that_train_together_divide_a_batch() -> None:
    together = replace(SETTINGS, training=replace(SETTINGS.training, replicas=2))
    model = small_model().train()
    whole = TrainingSteps(SOURCE, model, together)[3]
    shares = [TrainingSteps(SOURCE, model, together, Replica(rank, 2))[3] for rank in range(2)]
    assert tuple(share.scene_ids[0] for share in shares) == whole.scene_ids
    assert torch.equal(torch.cat([share.targets.regression for share in shares]), whole.targets.regression)
    with pytest.raises(ValueError, match="multiple of replicas"):
        ScheduleConfig(batch_scenes=3, replicas=2)


def test_the_last_complete_line_of_a_log_that_is_being_written(tmp_path: Path) -> None:
    assert last_row(tmp_path) is None
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n{"step": 1}\n{"st')
    assert last_row(tmp_path) == {"step": 1}


def test_a_milestone_takes_effect_one_epoch_later() -> None:
    training = ScheduleConfig(epochs=6, learning_rate=1.0, milestones=(2, 4))
    rates = [learning_rate(training, epoch * 10 + 9, 10) for epoch in range(6)]
    np.testing.assert_allclose(rates, [1, 1, 1, 0.1, 0.1, 0.01])


def test_onecycle_rises_and_falls() -> None:
    training = ScheduleConfig(epochs=10, learning_rate=1.0, schedule="onecycle")
    rates = [learning_rate(training, step, 10) for step in range(100)]
    assert np.argmax(rates) == 10 and rates[10] == pytest.approx(1.0) and rates[0] == pytest.approx(0.1) and rates[-1] < 0.01


def test_lines_of_repeated_steps_are_dropped_from_the_log(tmp_path: Path) -> None:
    for first in (0, 1):
        log = StepLog(tmp_path, first)
        for step in range(first, 3):
            log.write(StepReport(step, 3, 0, 0.1, 0.0, {"total": float(first)}))
        log.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["total"]) for row in rows] == [(0, 0.0), (1, 1.0), (2, 1.0)]


def test_an_alliance_comes_back_as_it_was_saved_and_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    model = small_model()
    alliance = save_alliance(tmp_path, model, SETTINGS, TrainingRecord(data="town", scenes=5))
    assert alliance.agent_names == ("m1",) and alliance.card.training.scenes == 5
    for name, tensor in model.base.state_dict().items():
        assert torch.equal(tensor, alliance.base.state_dict()[name])
    assert not alliance.agent("m1").training
    weights = tmp_path / "m1" / "agent.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(AllianceError, match="content hash"):
        load_alliance(tmp_path).agent("m1")


def test_half_weights_take_half_the_bytes_and_are_nearly_equal(tmp_path: Path) -> None:
    model = small_model()
    save_alliance(tmp_path / "full", model, SETTINGS, TrainingRecord())
    halved = replace(SETTINGS, training=replace(SETTINGS.training, half_weights=True))
    half = save_alliance(tmp_path / "half", model, halved, TrainingRecord())
    sizes = [(tmp_path / name / "base" / "base.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.75 * sizes[0]
    for name, tensor in half.base.state_dict().items():
        torch.testing.assert_close(tensor, model.base.state_dict()[name], rtol=1e-3, atol=1e-6)


def test_settings_come_from_the_alliance_then_the_file_then_the_command_line(tmp_path: Path) -> None:
    initial = save_alliance(tmp_path / "alliance", small_model(), SETTINGS, TrainingRecord())
    file = tmp_path / "more.yaml"
    file.write_text("base: {decode: {score_threshold: 0.3}}\ntraining: {epochs: 7, learning_rate: 1e-4}\n")
    settings = resolve_settings(file, initial, ["training.epochs=9"])
    assert settings.base.pyramid == BASE.pyramid and settings.agents == {"m1": AGENT}
    assert settings.base.decode.score_threshold == 0.3
    assert (settings.training.epochs, settings.training.learning_rate) == (9, 1e-4)


def test_a_misspelt_key_is_an_error_that_names_the_right_one(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("training: {epoch: 7}\n")
    with pytest.raises(ConfigError, match=r"training.epoch: unknown key; did you mean 'epochs'"):
        resolve_settings(file, None, [])
