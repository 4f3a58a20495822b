"""The recipes are HEAL's pyramid configurations: 29 short files, with its networks, its schedules and its ranges."""

from __future__ import annotations

import json

import pytest

from heal.opencood.config import Networks
from heal.opencood.run import export_state, make_networks
from heal.tools.shared.paths import CONFIGS
from heal.training.augment import AugmentConfig
from heal.training.config import learning_rate
from tests.configs.recipes import REFERENCES, recipe
from tests.golden.fixture import FOLDER

# The reference's schedule by data set and stage: the recorded table of rates, and the scenes of a batch. DAIR's second stage and
# V2XSet have no table: the first is written out, the second is trained as OPV2V-H is.
BATCHES = {"opv2v": 4, "v2xset": 4, "dair": 2}
TABLES = {("opv2v", 1): "stage1", ("opv2v", 2): "stage2", ("dair", 1): "dair_stage1"}
DAIR_STAGE2 = [1e-3] * 16 + [1e-4] * 10 + [1e-5] * 4


def test_there_are_29_and_each_is_short() -> None:
    files = [path for path in sorted((CONFIGS / "recipes").glob("*/*.yaml")) if not path.stem.startswith("single_")]
    assert {path.relative_to(CONFIGS / "recipes").with_suffix("").as_posix() for path in files} == set(REFERENCES)
    assert len(files) == len(set(REFERENCES.values())) == 29 and all(len(path.read_text().splitlines()) < 40 for path in files)


@pytest.mark.golden
@pytest.mark.skipif(not FOLDER.exists(), reason=f"no {FOLDER}; set HEAL_GOLDEN to the folder with the golden fixtures")
@pytest.mark.parametrize("name", REFERENCES)
def test_networks_have_the_references_weights(name: str) -> None:
    settings, stage2 = recipe(name), "stage2" in name
    # HEAL calls every type of DAIR-V2X-C's second stage m2.
    names = {agent: "m2" if stage2 and name.startswith("dair") else agent for agent in settings.agents}
    agents = {names[agent]: part for agent, part in settings.agents.items()}
    found = {
        key: list(tensor.shape) for key, tensor in export_state(make_networks(Networks(base=settings.base, agents=agents))).items()
    }
    listing = json.loads((FOLDER / "state_dict" / f"{REFERENCES[name]}.json").read_text())["state_dict"]
    assert found == {key: entry["shape"] for key, entry in listing.items()}


@pytest.mark.golden
@pytest.mark.skipif(not FOLDER.exists(), reason=f"no {FOLDER}; set HEAL_GOLDEN to the folder with the golden fixtures")
@pytest.mark.parametrize("name", REFERENCES)
def test_schedules_are_the_references(name: str) -> None:
    training, data, stage = recipe(name).training, name.split("/")[0], 2 if "stage2" in name else 1
    tables = json.loads((FOLDER / "tools_and_configs.json").read_text())["lr_schedule"]
    table = TABLES.get(("opv2v" if data == "v2xset" else data, stage))
    rates = DAIR_STAGE2 if table is None else tables[table]["lr_per_epoch"]
    assert [learning_rate(training, epoch, 1) for epoch in range(training.epochs)] == pytest.approx(rates)
    assert training.batch_scenes == (8 if name in ("opv2v/stage2_m3", "v2xset/stage2_m3") else BATCHES[data])


@pytest.mark.parametrize("name", REFERENCES)
def test_ranges_boxes_and_agents_are_the_papers(name: str) -> None:
    settings, data = recipe(name), name.split("/")[0]
    training, stage2, dair = settings.training, "stage2" in name, data == "dair"
    if not stage2:  # its base is that of an alliance
        square = ("final" in name or "lidar_only" in name) and not dair
        y_m, z_m = 102.4 if square else 51.2, (-3.5, 1.5) if dair else (-3.0, 1.0)
        assert settings.base.grid.range_m == (-102.4, -y_m, z_m[0], 102.4, y_m, z_m[1])
        assert settings.base.decode.nms_iou == (0.05 if dair and "final" not in name else 0.15)
        assert (settings.base.decode.max_extent_m, settings.base.decode.z_limits_m) == (6, (-3, 1))
        expected = (False, True, True, 2 if dair else 5, 100 if dair else 70)
        found = (training.random_agents, training.random_ego, training.include_ego, training.max_agents, training.comm_range_m)
        assert found == expected
    assert (training.ground_truth, training.z_margin_m) == (("merged", 1) if dair else ("joint", 0))
    assert training.labels == ("camera" if name == "dair/stage2_m3" else "sensor")
    assert training.range_m == ((96, 48) if stage2 and "m3" in name and not dair else None)
    varied = AugmentConfig(of="lidar", flip=True, agent_yaw_deg=45, scale=0.05)
    assert settings.augment == (varied if stage2 else AugmentConfig())


@pytest.mark.parametrize("name", REFERENCES)
def test_sensors_are_those_of_the_data_set(name: str) -> None:
    for agent in recipe(name).agents.values():
        choice, encoder = agent.sensor_in_training, agent.encoder
        if name.startswith(("v2xset", "dair")):
            assert not choice.depth and (choice.cameras or choice.beams == 64 or name.startswith("dair"))
        if choice.cameras and name.startswith("dair"):
            assert encoder.cameras == () and encoder.image.size == (288, 512) and encoder.image.rotate_deg == (0, 0)
            # HEAL resizes images of 1080 x 1920 pixels by 0.27 to 0.28.
            assert [zoom * max(288 / 1080, 512 / 1920) for zoom in encoder.image.zoom] == pytest.approx([0.27, 0.28])
