"""Presets of towns: what the older ones give never changes, and a preset's text changes its weather and its LiDARs."""

from __future__ import annotations

import numpy as np
import pytest

from heal.datasets.town import PRESETS, TownSource, town_preset
from heal.datasets.town.seeds import Stream, random_stream
from heal.datasets.town.sensors.camera import RenderInput, render_picture
from heal.datasets.town.sensors.lamps import find_lamps
from heal.datasets.town.sensors.weather import WEATHERS, draw_weather
from heal.datasets.town.world.blocks import make_blocks
from heal.datasets.town.world.streets import make_map
from heal.datasets.town.world.traffic import park_vehicles, start_agents, start_traffic
from heal.errors import UserError


def layout_sums(name: str, seed: int) -> list[float]:
    """Return sums over the streets' blocks, the parked vehicles, and the vehicles at the starts of their paths."""
    preset = town_preset(name)

    def stream(*key: int) -> np.random.Generator:
        return random_stream("train", seed, *key)

    def path_rng(number: int, attempt: int) -> np.random.Generator:
        return stream(Stream.PATH, number, attempt)

    town = make_map(preset, stream(Stream.LAYOUT))
    blocks = make_blocks(town, preset, stream(Stream.LAYOUT, 1))
    parked = park_vehicles(town, blocks, preset, stream(Stream.PARKED))
    agents = start_agents(town, preset, 30.0, stream(Stream.TRAFFIC), path_rng)
    moving = start_traffic(town, agents, preset, 30.0, stream(Stream.TRAFFIC, 1), path_rng)
    return [
        sum(float(block.low_uv.sum() + block.high_uv.sum()) * (1 + block.use) for block in blocks),
        sum(float(car.xy.sum()) + car.yaw + car.spec.length_m for car in parked),
        sum(float(one.path.xy[:80].sum()) + one.speed + one.spec.height_m for one in moving),
        float(len(parked) * 1000 + len(moving)),
    ]


# The sums were taken before presets had classes, weather and layouts, from towns whose every bit was then compared.
LAYOUTS = {
    "demo": [-3456.7704227, -2961.1770875, 28388.9962264, 89037.0],
    "easy": [-6412.559309, 25.8875808, 17708.9394577, 55019.0],
    "dense": [-4043.0395849, -2598.6417368, 77518.5558529, 82059.0],
    "crossing": [-438.6213409, -356.9612908, -108088.5791306, 20061.0],
    "test": [-1304.3785607, 984.6362669, 25100.3051487, 73008.0],
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_streets_and_vehicles_of_a_published_preset_never_change(name: str) -> None:
    np.testing.assert_allclose(layout_sums(name, 6), LAYOUTS[name], atol=1e-5)


@pytest.fixture(scope="module")
def town() -> TownSource:
    return TownSource("test", 6, 1, "train")


def test_what_the_sensors_of_a_published_preset_measure_never_changes(town: TownSource) -> None:
    points = town.sweep(0, "1000").points.astype(np.float64)
    hits = town.hits(0, "1000")
    assert {number: hits[number] for number in HITS} == pytest.approx(HITS, abs=2)
    assert len(points) == pytest.approx(POINTS, abs=3)
    np.testing.assert_allclose(points.mean(axis=0), POINT_MEANS, atol=0.01)
    picture = town.pictures(0, "-1")[0]
    np.testing.assert_allclose(picture.image.mean(axis=(0, 1)), COLOUR_MEANS, atol=0.1)
    assert float(np.minimum(picture.depth_m, 200.0).mean()) == pytest.approx(DEPTH_MEAN, abs=0.05)


# Of the town above, taken at the same time. A ray that grazes an edge may fall on the other side of it on another processor.
HITS = {1004: 9, 1005: 224, 1006: 10, 1012: 16, 1023: 15, 1032: 14}
POINTS, POINT_MEANS = 4972, [0.3977, 0.5842, -1.4447, 0.1469]
COLOUR_MEANS, DEPTH_MEAN = [155.87, 156.68, 159.67], 50.881


def test_a_text_changes_the_weather_and_the_lidars_and_nothing_else() -> None:
    rainy = town_preset("demo+weather=rain+lidar=spinning128")
    assert (rainy.weather, rainy.lidars, rainy.name) == ("rain", ("spinning128",), "demo+lidar=spinning128+weather=rain")
    assert town_preset("mixed+roadside_lidar=sector300").roadside_lidars == ("sector300",)
    assert town_preset("demo") == PRESETS["demo"] and town_preset(rainy) is rainy
    assert TownSource("test+weather=night", 3, 1).scenario == "test+weather=night_000000003"


def test_the_same_place_looks_and_measures_as_its_weather_says(town: TownSource) -> None:
    built, state = town.town, town.state(0)
    [pose, *_] = town.camera_poses(0, "-1")
    looks = {}
    for name in WEATHERS:
        weather, lamps = draw_weather(np.random.default_rng(1), name), find_lamps(state.mesh, state.scene.standing_count)
        inputs = RenderInput(built.map, built.blocks, weather, state.mesh, state.scene, lamps)
        looks[name] = render_picture(inputs, pose, (80, 60), 33.6, smooth=False)
        np.testing.assert_array_equal(looks[name].depth_m, looks["day"].depth_m)
    light = {name: picture.image.mean() for name, picture in looks.items()}
    warmth = {name: picture.image[..., 0].mean() / picture.image[..., 2].mean() for name, picture in looks.items()}
    assert light["night"] < 0.5 * min(light["day"], light["rain"], light["low_sun"]) and warmth["low_sun"] > 1.15 * warmth["day"]


def test_a_rainy_town_is_the_same_town_in_rain(town: TownSource) -> None:
    rainy = TownSource("test+weather=rain", 6, 1, "train")
    np.testing.assert_array_equal(rainy.state(0).world_SE3_vehicles, town.state(0).world_SE3_vehicles)
    dry, wet = town.sweep(0, "1000"), rainy.sweep(0, "1000")
    assert len(wet.points) < 0.98 * len(dry.points) and np.linalg.norm(wet.points[:, :3], axis=1).min() < 1.5
    assert wet.points[:, 3].mean() < dry.points[:, 3].mean()
    pictures, again = rainy.pictures(0, "-1"), TownSource("test+weather=rain", 6, 1, "train")
    again._town = rainy.town  # a built town is the same in both
    for first, second, third in zip(town.pictures(0, "-1"), pictures, again.pictures(0, "-1"), strict=True):
        assert np.abs(first.image.astype(int) - second.image).mean() > 5
        np.testing.assert_array_equal(second.image, third.image)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("demmo+weather=rain", "unknown town preset 'demmo'.*did you mean 'demo'"),
        ("demo+wether=rain", "unknown change of the town preset demo 'wether'; there are weather, lidar, roadside_lidar; did you"),
        ("demo+weather=snow", "unknown weather 'snow'; there are day, rain, night, low_sun"),
        ("demo+lidar=spinning256", "unknown lidar 'spinning256'.*did you mean 'spinning128'"),
        ("demo+weather", "unknown weather ''"),
        ("demo+weather=rain+weather=night", "expected each change once"),
    ],
)
def test_an_unknown_name_key_or_value_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        town_preset(text)
