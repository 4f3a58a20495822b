"""The town's traffic: no two vehicles overlap, vehicles keep to their side, and longer runs begin with the shorter ones."""

import numpy as np
import pytest
from shapely.geometry import Polygon
from shapely.strtree import STRtree

from heal.datasets.town import town_preset
from heal.datasets.town.world.blocks import make_blocks
from heal.datasets.town.world.driving import Fleet
from heal.datasets.town.world.footprints import footprint, overlaps
from heal.datasets.town.world.paths import STEP_M, Start, make_path
from heal.datasets.town.world.streets import make_map
from heal.datasets.town.world.traffic import park_vehicles, start_agents, start_traffic


def simulated_traffic(preset_name: str, seed: int, ticks: int):
    """Return the footprints (T, V, 4, 2) of moving and (P, 4, 2) of parked vehicles, and the motion."""
    preset = town_preset(preset_name)
    town = make_map(preset, np.random.default_rng([seed, 0]))
    parked = park_vehicles(
        town, make_blocks(town, preset, np.random.default_rng([seed, 1])), preset, np.random.default_rng([seed, 2])
    )

    def paths(*keys: int) -> np.random.Generator:
        return np.random.default_rng([seed, 3, *keys])

    agents = start_agents(town, preset, 1.4 * (ticks + 20), np.random.default_rng([seed, 4]), paths)
    drives = start_traffic(town, agents, preset, 1.4 * (ticks + 20), np.random.default_rng([seed, 5]), paths)
    standing = np.array([footprint(car.xy, np.float64(car.yaw), *car.spec.size_m[:2]) for car in parked]).reshape(-1, 4, 2)
    motion = Fleet(drives, standing, np.zeros((preset.streets, preset.streets))).run(ticks)
    moving = [
        [footprint(d.path.xy[k], d.path.yaw[k], *d.spec.size_m[:2]) for d, k in zip(drives, row, strict=True)]
        for row in (motion.along_m / STEP_M).astype(int)
    ]
    return np.array(moving), standing, motion


@pytest.mark.parametrize(("preset", "seed"), [("demo", 1), ("dense", 2), ("crossing", 3)])
def test_no_two_vehicles_ever_overlap(preset, seed):
    moving, standing, motion = simulated_traffic(preset, seed, ticks=120)
    for row in moving[::4]:
        shapes = [Polygon(corners) for corners in np.concatenate([row, standing])]
        first, second = STRtree(shapes).query(shapes, predicate="intersects")
        assert (first == second).all(), f"{shapes[first[first != second][0]]} overlaps another vehicle"
    assert motion.along_m[-1].mean() > 10.0, "traffic has come to a standstill"


def test_steps_agree_with_speeds():
    _, _, motion = simulated_traffic("test", 0, ticks=60)
    np.testing.assert_allclose(np.diff(motion.along_m, axis=0), 0.1 * motion.speed[1:], atol=1e-9)
    assert (motion.speed >= 0).all() and motion.speed.max() < 14.0


def test_what_happens_does_not_depend_on_how_long_the_run_is():
    _, _, short = simulated_traffic("demo", 7, ticks=15)
    _, _, long = simulated_traffic("demo", 7, ticks=150)
    np.testing.assert_array_equal(short.along_m, long.along_m[:15])


@pytest.mark.parametrize("seed", range(4))
def test_vehicles_keep_to_their_side_of_the_road(seed):
    town = make_map(town_preset("demo"), np.random.default_rng(seed))
    path = make_path(town, Start(*town.centre, 0, 30.0), 1.0, np.random.default_rng(0))
    street = town.along_u[town.centre[1]]
    on_axis = town.warp.world_xy(street.uv(np.linspace(-80, 80, 641), 0.0))
    nearest = np.argmin(np.linalg.norm(on_axis - path.xy[0], axis=1))
    offset = path.xy[0] - on_axis[nearest]
    right = np.array([-np.sin(path.yaw[0]), np.cos(path.yaw[0])])
    assert np.sign(offset @ right) == town.drive_side


def test_overlap_of_rectangles_by_hand():
    def at(x, y, degrees):
        return footprint(np.array([x, y]), np.radians(degrees), np.float64(4.0), np.float64(2.0))

    still = at(0.0, 0.0, 0.0)
    assert overlaps(still, np.stack([at(10, 0, 0), at(3.9, 0, 0)]))
    assert not overlaps(still, np.stack([at(4.1, 0, 0), at(0, 2.1, 0), at(0, 3.1, 90)]))
    # Along the diagonal the first rectangle ends at 3 / sqrt(2) = 2.12; the turned rectangle begins at 2.17, then at 2.03.
    assert not overlaps(still, at(3.2, 2.7, 45.0)[None])
    assert overlaps(still, at(3.1, 2.6, 45.0)[None])
    assert not overlaps(still, np.zeros((0, 4, 2)))
