"""The baselines' recipes are HEAL's: 58 short files, with its networks, trained as Pyramid Fusion is on the same sensors."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from heal.opencood.config import OWN_KEY, Networks, read_config, write_config
from heal.opencood.one_type import one_type_state
from heal.opencood.run import export_state, make_networks
from heal.tools.shared.paths import CONFIGS
from heal.tools.shared.setting_files import read_agent_type
from tests.configs.baselines import BASELINES, METHODS
from tests.configs.recipes import recipe
from tests.golden.fixture import FOLDER

RECIPES = CONFIGS / "recipes"
# HEAL has baselines for V2X-Sim too, which cannot be read: their networks are those of OPV2V.
LISTINGS = [
    *BASELINES.items(),
    *((f"opv2v/baselines/lidar_{method}", f"v2xsim2__LiDAROnly__lidar_{method}") for method in ("fcooper", "attfuse", "cobevt")),
    ("v2xset/baselines/lidar_disconet", "v2xsim2__LiDAROnly__lidar_disco"),
]
# DiscoNet's student has no named types on OPV2V.
ONE_TYPE = "opv2v__LiDAROnly__lidar_disco"


def networks(name: str) -> Networks:
    settings = recipe(name)
    return Networks(base=settings.base, agents=dict(settings.agents))


def sister(name: str) -> str:
    """Return the recipe of Pyramid Fusion on the same data and sensors."""
    data, _, file = name.split("/")
    sensors = file.rpartition("_")[0]
    return f"{data}/{sensors}_only" if sensors in ("lidar", "camera") else f"{data}/{sensors}"


def test_there_are_58_and_each_is_short() -> None:
    files = sorted(RECIPES.glob("*/baselines/*.yaml"))
    assert {path.relative_to(RECIPES).with_suffix("").as_posix() for path in files} == set(BASELINES)
    assert len(files) == len(set(BASELINES.values())) == 58
    assert all(sum(not line.startswith("#") for line in path.read_text().splitlines()) <= 8 for path in files)


@pytest.mark.golden
@pytest.mark.skipif(not FOLDER.exists(), reason=f"no {FOLDER}; set HEAL_GOLDEN to the folder with the golden fixtures")
def test_no_listing_of_a_baseline_is_left_out() -> None:
    kinds = json.loads((FOLDER / "state_dict" / "SUMMARY.json").read_text())
    models = ("heter_model_baseline", "heter_model_baseline_ms", "point_pillar_disconet")
    expected = {config.removesuffix(".yaml") for config, entry in kinds.items() if entry["model"] in models}
    assert {listing.replace("__", "/") for _, listing in LISTINGS} == {name.replace("/MoreModality", "") for name in expected}


@pytest.mark.golden
@pytest.mark.skipif(not FOLDER.exists(), reason=f"no {FOLDER}; set HEAL_GOLDEN to the folder with the golden fixtures")
@pytest.mark.parametrize(("name", "listing"), LISTINGS)
def test_networks_have_the_references_weights(name: str, listing: str) -> None:
    state = export_state(make_networks(networks(name)))
    found = {key: list(tensor.shape) for key, tensor in (one_type_state(state) if listing == ONE_TYPE else state).items()}
    recorded = json.loads((FOLDER / "state_dict" / f"{listing}.json").read_text())["state_dict"]
    assert found == {key: entry["shape"] for key, entry in recorded.items()}


@pytest.mark.parametrize("name", BASELINES)
def test_a_run_of_every_recipe_is_read_whole(name: str) -> None:
    wanted = networks(name)
    written = write_config(wanted, (1080, 1920) if name.startswith("dair") else (600, 800))
    read = read_config(written)
    assert read.base == wanted.base and read.agents == wanted.agents
    # HEAL's CoBEVT has the agents in the order of the data set; ours in that of their distances. Nothing else is lost.
    allowed = {"base": {"fusion": {"order": "nearest"}}} if name.endswith("cobevt") else {}
    own = written.get(OWN_KEY, {})
    assert {**own, "agents": {}} == {**allowed, "agents": {}} and set(own.get("agents", {})) <= {"m2", "m4"}


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_trained_as_pyramid_fusion_is(name: str) -> None:
    settings, other = recipe(name), recipe(sister(name))
    assert settings.training == other.training and settings.augment == other.augment
    grid, scales = settings.base.grid, name.endswith("coalign")
    assert grid == replace(other.base.grid, cell_m=0.8 if scales else 1.6)
    assert settings.base.decode == other.base.decode and settings.base.anchors == other.base.anchors
    assert settings.agents.keys() == other.agents.keys()
    for agent, part in settings.agents.items():
        paired = other.agents[agent]
        assert (part.encoder, part.lidar_beams) == (paired.encoder, paired.lidar_beams)
        assert part.backbone == paired.backbone if scales else part.backbone.kind == "plain"
    assert settings.base.fusion is not None and settings.base.fusion.kind == METHODS[name.rpartition("_")[2]]
    assert settings.loss == other.loss and not settings.base.fusion.foreground


def test_every_type_with_a_plain_backbone_is_used_and_fits_cells_of_1_6_m() -> None:
    used = {agent for name in BASELINES if not name.endswith("coalign") for agent in networks(name).agents.values()}
    compared = (CONFIGS / "compare" / "dair.yaml").read_text(encoding="utf-8")
    shipped = {path.stem: read_agent_type(f"plain/{path.stem}") for path in (CONFIGS / "agents" / "plain").glob("*.yaml")}
    assert [name for name, agent in shipped.items() if agent not in used and f"plain/{name}" not in compared] == []
    assert used <= set(shipped.values())
    model = make_networks(networks("opv2v/baselines/joint_m1m2m3m4_fcooper"))
    assert sum(weight.numel() for weight in model.parameters()) == 49_196_888
