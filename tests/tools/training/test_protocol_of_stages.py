"""The paper's two stages through the commands: a base of cameras, the aligner alone, a range of one's own, varied clouds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from heal.agent_model import AgentConfig, AgentModel
from heal.aligners.convnext import ConvNextAlignerConfig
from heal.alliance import load_alliance
from heal.base_model import BaseModel
from heal.collab_model import CollabModel
from heal.config import ConfigError, load_config, save_config, to_plain
from heal.datasets.in_memory import ScenesInMemory
from heal.encoders.images import ImageConfig
from heal.errors import UserError
from heal.tools.shared.paths import config_path
from heal.tools.training.job import make_model
from heal.tools.training.settings import resolve_agent_settings, resolve_settings
from heal.training.batches import BatchMaker, TrainingBatch, TrainingSteps
from heal.training.config import TrainingConfig
from heal.training.drawing import DrawnScene
from heal.training.step import TrainingStoppedError, set_learning
from heal.types import Scene
from tests.datasets.opv2v import opv2v_tree
from tests.heal.encoders.test_coverage import CAMERA
from tests.heal.networks import AGENT, GRID, small_model, small_scene
from tests.heal.views import camera_view
from tests.tools.command import run_command
from tests.tools.training.small_training import SETTINGS

SHORT = replace(SETTINGS, training=replace(SETTINGS.training, epochs=2))
STAGE_TWO = "loss: {occupancy_weights: [0.4, 0.2]}\ntraining: {epochs: 2, batch_scenes: 2, workers: 0}\n"
ALIGNED = replace(AGENT, aligner=ConvNextAlignerConfig(blocks=1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a tree of two agents with cars near them, the settings of both stages, and the files of types."""
    root = opv2v_tree.write_tree(tmp_path)
    for number, agent_id in enumerate(("641", "650")):
        seen = {300: opv2v_tree.vehicle(10.0 * number + 4.0, 1.0), 301 + number: opv2v_tree.vehicle(10.0 * number - 3.5, -2.0)}
        for stamp in ("000068", "000070"):
            values = opv2v_tree.metadata(10.0 * number, vehicles=seen)
            opv2v_tree.write_frame(root / "test" / "scenario_a" / agent_id, stamp, values)
    camera = replace(CAMERA, encoder=replace(CAMERA.encoder, depth_supervision=False, pretrained=False))
    for name, kind in (("m1", AGENT), ("m2", camera), ("aligned", ALIGNED)):
        save_config(kind, tmp_path / f"{name}.yaml")
    save_config({**to_plain(SHORT), "agents": {"m1": str(tmp_path / "m1.yaml")}}, tmp_path / "base.yaml")
    (tmp_path / "agent.yaml").write_text(STAGE_TWO)
    return tmp_path


def _base(folder: Path, out: str, *more: object) -> Path:
    paths = ("--data", folder / "OPV2V", "--split", "test", "--config", folder / "base.yaml", "--out", folder / out)
    run_command("train", "base", *paths, "--device", "cpu", *more)
    return folder / out / "alliance"


def _agent(folder: Path, base: Path, out: str, *more: object, name: str = "aligned") -> AgentModel:
    paths = ("--data", folder / "OPV2V", "--split", "test", "--config", folder / "agent.yaml", "--out", folder / out)
    run_command("train", "agent", "--type", folder / f"{name}.yaml", "--base", base, *paths, "--device", "cpu", *more)
    return load_alliance(folder / out).agent(name)


def _differing(one: AgentModel, other: AgentModel) -> set[str]:
    """Return which of a type's parts, such as "encoder", have other weights or statistics."""
    theirs = other.state_dict()
    return {name.split(".")[0] for name, tensor in one.state_dict().items() if not torch.equal(tensor, theirs[name])}


def test_a_base_of_cameras_trains_as_one_of_lidars_does(folder: Path) -> None:
    text = (folder / "base.yaml").read_text()
    (folder / "base.yaml").write_text(text.replace("m1:", "m2:").replace("m1.yaml", "m2.yaml").replace("epochs: 2", "epochs: 1"))
    first = make_model(resolve_settings(folder / "base.yaml", None, []), None)
    alliance = load_alliance(_base(folder, "run"))
    assert alliance.agent_names == alliance.card.training.agent_types == ("m2",)
    assert _differing(first.agent("m2"), alliance.agent("m2")) == {"encoder", "backbone"}  # the aligner is the identity
    weights = dict(first.base.named_parameters())
    assert [name for name, tensor in alliance.base.named_parameters() if torch.equal(tensor, weights[name])] == []


def test_the_aligner_learns_alone(folder: Path) -> None:
    base = _base(folder, "run")
    fixed = ("--init", base / "m1", "--set", "training.fix_encoder=true")
    still = _agent(folder, base, "still", *fixed, "--set", "training.learning_rate=0")
    trained = _agent(folder, base, "trained", *fixed)
    m1 = load_alliance(base).agent("m1")
    assert _differing(m1, trained) == set() and _differing(still, trained) == {"aligner"}
    with pytest.raises(ConfigError, match="name the type whose encoder and backbone are trained: heal train agent --init TYPE"):
        _agent(folder, base, "none", "--set", "training.fix_encoder=true")
    with pytest.raises(ConfigError, match="that of m1 has no weights"):
        _agent(folder, base, "none", *fixed, name="m1")
    with pytest.raises(UserError, match="other networks than aligned"):
        save_config(replace(ALIGNED, encoder=replace(AGENT.encoder, channels=(4,))), folder / "aligned.yaml")
        _agent(folder, base, "none", *fixed)
    assert not (folder / "none").exists()


def test_a_fixed_encoder_that_changes_stops_the_training() -> None:
    model = small_model()
    guard = set_learning(model, replace(SETTINGS.training, frozen_base=True, fix_encoder=True))
    guard.check()
    assert not model.agent("m1").encoder.training and model.agent("m1").aligner.training
    next(buffer for name, buffer in model.agent("m1").encoder.named_buffers() if "running_mean" in name)[0] += 1e-6
    with pytest.raises(TrainingStoppedError, match=r"m1\.encoder\..*running_mean"):
        guard.check()


def test_a_type_is_trained_on_a_range_of_its_own(folder: Path) -> None:
    base = _base(folder, "run")
    alliance = load_alliance(base)
    files = folder / "aligned.yaml", alliance, folder / "agent.yaml"
    settings = resolve_agent_settings(*files, ["training.range_m=[9.6, 4.8]"])
    assert settings.base.grid == replace(GRID, range_m=(-9.6, -4.8, -3.0, 9.6, 4.8, 1.0))
    scenes = ScenesInMemory([small_scene(seed, agents=1, cars=8) for seed in range(2)])
    assert resolve_agent_settings(*files, []).base.grid == GRID
    counts = []
    for part, shape in ((settings, (12, 24)), (resolve_agent_settings(*files, []), (16, 32))):
        batch = TrainingSteps(scenes, _model(part), part)[0]
        assert tuple(batch.targets.positive.shape[1:3]) == tuple(batch.agent_targets.positive.shape[1:3]) == shape
        drawn = DrawnScene(scenes.scenes[0], {"0": "aligned"}, of_union=True)
        counts.append(len(BatchMaker(_model(part), part).truths([drawn])[0]))
    assert 0 < counts[0] < counts[1]
    trained = _agent(folder, base, "narrow", "--set", "training.range_m=[9.6, 4.8]")
    assert trained.grid == GRID  # in the alliance it maps the whole range
    for wrong, message in (("[16, 4.8]", "expected at most 12.8 x 6.4 m"), ("[9.6, 4.4]", "in y")):
        with pytest.raises(UserError, match=message):
            resolve_agent_settings(*files, [f"training.range_m={wrong}"])


def _model(settings: TrainingConfig) -> CollabModel:
    grid = settings.base.grid
    return CollabModel(BaseModel(settings.base), {name: AgentModel(agent, grid) for name, agent in settings.agents.items()})


def _seeing(scene: Scene) -> Scene:
    """Return a scene whose agents have a camera in the place of their LiDAR."""
    frames = [replace(frame, lidar=None, cameras=(camera_view(depth_m=4.0),)) for frame in scene.frames]
    return replace(scene, frames=tuple(frames))


def _first_batch(scene: Scene, agent: AgentConfig, config: str) -> TrainingBatch:
    """Return the first batch of a stage 2 with the augmentation of a shipped configuration."""
    augment = load_config(TrainingConfig, config_path(config)).augment
    training = replace(SETTINGS.training, batch_scenes=1, frozen_base=True, max_agents=1)
    settings = replace(SETTINGS, agents={"m": agent}, augment=augment, training=training)
    return TrainingSteps(ScenesInMemory([scene]), _model(settings), settings)[0]


@pytest.mark.parametrize("config", ["agent.yaml", "agent_dair.yaml"])
def test_the_second_stage_varies_clouds_and_leaves_scenes_of_cameras_alone(config: str) -> None:
    scene = small_scene(0, agents=1)
    plain, varied = (_first_batch(scene, AGENT, name).targets for name in ("base.yaml", config))
    assert not torch.equal(plain.regression, varied.regression)
    still = replace(CAMERA, encoder=replace(CAMERA.encoder, image=ImageConfig(size=(32, 48))))
    one, other = (_first_batch(_seeing(scene), still, name) for name in ("base.yaml", config))
    assert torch.equal(one.targets.regression, other.targets.regression)
    images = [batch.inputs.inputs["m"].images for batch in (one, other)]
    assert torch.equal(*images)
