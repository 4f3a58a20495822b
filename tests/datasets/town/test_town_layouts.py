"""Layouts of towns, and who moves in them: nothing overlaps, people keep to pavements and crossings, vehicles to their roads."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from shapely.geometry import MultiPoint, Polygon
from shapely.strtree import STRtree

from heal.datasets.town import town_preset
from heal.datasets.town.geometry.materials import Material
from heal.datasets.town.world.blocks import Block, make_blocks
from heal.datasets.town.world.buildings import make_buildings
from heal.datasets.town.world.driving import Fleet, Motion
from heal.datasets.town.world.footprints import footprint
from heal.datasets.town.world.highway import make_highway, start_on_highway
from heal.datasets.town.world.paths import STEP_M
from heal.datasets.town.world.streets import KERB_M, TownMap, make_map
from heal.datasets.town.world.traffic import MovingVehicle, park_vehicles, start_agents, start_traffic, start_walkers
from heal.types import Float64

TICKS = 40
SMALLER = {"moving": (10, 12), "walkers": (14, 16), "vehicles": 2}
CHANGES = {"roundabout": {**SMALLER, "bend_m": (0.0, 0.0)}, "highway": {"moving": (20, 24)}}  # an unbent roundabout is round


class Simulated:
    """The traffic of a town without its meshes: its movers, their motion, and where they stand at some ticks."""

    def __init__(self, name: str, seed: int) -> None:
        """Simulate the traffic of a small town of a preset."""
        self.preset = replace(town_preset(name), **CHANGES.get(name, SMALLER))

        def paths(*key: int) -> np.random.Generator:
            return np.random.default_rng([seed, 3, *key])

        def walks(*key: int) -> np.random.Generator:
            return np.random.default_rng([seed, 4, *key])

        rngs, length_m = [np.random.default_rng([seed, number]) for number in range(5)], 3.6 * (TICKS + 20)
        self.blocks: tuple[Block, ...] = ()
        if name == "highway":
            self.town = make_highway(self.preset, rngs[0])
            self.movers, standing = start_on_highway(self.town, self.preset, length_m, rngs[1]), np.zeros((0, 4, 2))
        else:
            self.town = make_map(self.preset, rngs[0])
            self.blocks = make_blocks(self.town, self.preset, rngs[1])
            parked = park_vehicles(self.town, self.blocks, self.preset, rngs[2])
            vehicles = start_traffic(
                self.town, start_agents(self.town, self.preset, length_m, rngs[3], paths), self.preset, length_m, rngs[3], paths
            )
            self.movers = start_walkers(self.town, vehicles, self.preset, length_m, rngs[4], walks)
            standing = np.array([footprint(car.xy, np.float64(car.yaw), *car.spec.size_m[:2]) for car in parked])
        self.standing = standing.reshape(-1, 4, 2)
        self.motion: Motion = Fleet(self.movers, self.standing, np.zeros((4, 4))).run(TICKS)

    def footprints(self, tick: int) -> Float64:
        """Return the footprints (V, 4, 2) of the movers."""
        steps = (self.motion.along_m[tick] / STEP_M).astype(int)
        return np.array(
            [footprint(m.path.xy[k], m.path.yaw[k], *m.spec.size_m[:2]) for m, k in zip(self.movers, steps, strict=True)]
        )


@cache
def simulated(name: str, seed: int = 5) -> Simulated:
    return Simulated(name, seed)


LAYOUTS = ("mixed", "roundabout", "junction", "highway")


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_two_movers_overlap_and_traffic_flows(name: str) -> None:
    town = simulated(name)
    for tick in range(0, TICKS, 10):
        shapes = [Polygon(corners) for corners in np.concatenate([town.footprints(tick), town.standing])]
        first, second = STRtree(shapes).query(shapes, predicate="intersects")
        assert (first == second).all(), f"{shapes[first[first != second][0]]} overlaps another one"
    assert np.median(town.motion.along_m[-1] - town.motion.along_m[0]) > 2.5, "traffic has come to a standstill"


@pytest.mark.parametrize("name", ["mixed", "roundabout", "junction"])
def test_no_mover_touches_a_building(name: str) -> None:
    town = simulated(name)
    walls = [
        MultiPoint(mesh.vertices[:, :2]).convex_hull
        for mesh in make_buildings(town.town, town.blocks, np.random.default_rng(0))
        if (mesh.material == Material.FACADE).all()
    ]
    assert len(walls) > 20
    tree = STRtree(walls)
    for tick in range(0, TICKS, 20):
        assert len(tree.query([Polygon(corners) for corners in town.footprints(tick)], predicate="intersects")[0]) == 0


def of_class(town: Simulated, name: str) -> list[MovingVehicle]:
    return [mover for mover in town.movers if mover.spec.kind.object_type == name]


def inside_blocks(town: TownMap, blocks: tuple[Block, ...]) -> STRtree:
    """Return the blocks, grown by 0.4 m, in world coordinates; their corners are taken as square."""
    outlines = []
    for block in blocks:
        steps = np.linspace(0.0, 1.0, 30)[:, None]
        corners = [block.low_uv, [block.high_uv[0], block.low_uv[1]], block.high_uv, [block.low_uv[0], block.high_uv[1]]]
        ring = np.concatenate([a + steps * np.subtract(b, a) for a, b in zip(corners, [*corners[1:], corners[0]], strict=True)])
        outlines.append(Polygon(town.warp.world_xy(ring)).buffer(0.4))
    return STRtree(outlines)


@pytest.mark.parametrize("name", ["mixed", "roundabout", "junction"])
def test_pedestrians_stand_on_kerbs_and_cross_streets_on_the_level_of_the_road(name: str) -> None:
    town = simulated(name)
    walkers = of_class(town, "pedestrian")
    assert len(walkers) >= 10
    blocks = inside_blocks(town.town, town.blocks)
    places = np.concatenate([mover.path.xy[:400:4] for mover in walkers])
    above = np.concatenate([mover.path.above_m[:400:4] for mover in walkers])
    on_block = np.zeros(len(places), bool)
    on_block[blocks.query(MultiPoint(places).geoms, predicate="intersects")[0]] = True
    assert (above[~on_block] < KERB_M).mean() > 0.9, "whoever is on the street is as high as the street"
    assert on_block[above == KERB_M].mean() > 0.99 and 0.6 < (above == KERB_M).mean() < 1.0
    kept = np.concatenate([np.abs(np.diff(mover.path.xy, axis=0)).max(axis=1) for mover in walkers])
    assert kept.max() < 2 * STEP_M, "no path jumps"


def test_cyclists_keep_to_the_kerb_and_are_slower_than_vehicles() -> None:
    towns = [simulated("mixed"), simulated("junction")]
    cyclists = [mover for town in towns for mover in of_class(town, "cyclist")]
    cars = [mover for town in towns for mover in of_class(town, "car")[2:]]
    assert len(cyclists) >= 2 and max(m.speed for m in cyclists) < 6.0 <= min(m.speed for m in cars)
    assert {m.spec.kind.object_type for town in towns for m in town.movers} >= {"car", "pedestrian", "cyclist"}


def test_vehicles_go_around_the_island_of_a_roundabout_on_its_outer_side() -> None:
    town = simulated("roundabout")
    ring, middle = town.town.ring, town.town.warp.world_xy(np.zeros(2))
    assert ring is not None
    passed = 0
    for mover in of_class(town, "pedestrian"):
        assert np.linalg.norm(mover.path.xy - middle, axis=1).min() > ring.outer_m + 1.0
    for mover in [mover for mover in town.movers if mover.spec.kind.is_vehicle]:
        away = np.linalg.norm(mover.path.xy - middle, axis=1)
        assert away.min() > ring.inner_m + 0.5 * mover.spec.width_m
        near = away < ring.outer_m
        if near.sum() > 20:
            passed += 1
            (x, y), yaw = (mover.path.xy[near] - middle).T, mover.path.yaw[near]
            around = x * np.sin(yaw) - y * np.cos(yaw)
            assert (np.sign(around) == -town.town.drive_side).mean() > 0.8, "y is to the right of x: angles fall on the right side"
    assert passed >= 2


def test_no_vehicle_drives_where_a_junction_has_no_street() -> None:
    town = simulated("junction")
    column, row = town.town.centre
    assert [town.town.has_arm(column, row, direction) for direction in range(4)] == [True, False, True, True]
    blocks = [block for block in town.blocks if block.low_uv[0] < 0 < block.high_uv[0]]
    assert len(blocks) == len(town.town.along_u) - row and all(block.low_uv[1] > 0 for block in blocks)
    inside = STRtree([Polygon(town.town.warp.world_xy(_rim(block))).buffer(-1.0) for block in blocks])
    for mover in town.movers:
        if mover.spec.kind.is_vehicle:
            assert len(inside.query(MultiPoint(mover.path.xy[::8]).geoms, predicate="intersects")[0]) == 0


def _rim(block: Block) -> Float64:
    low, high = block.low_uv, block.high_uv
    return np.array([low, [high[0], low[1]], high, [low[0], high[1]]])


def test_a_highway_is_fast_its_lorries_keep_to_the_outer_lane_and_nobody_walks() -> None:
    town = simulated("highway")
    assert not of_class(town, "pedestrian") and not of_class(town, "cyclist")
    speeds = town.motion.speed[-1]
    assert np.median(speeds) > 17.0 and speeds.max() < 36.0
    road = town.town.along_u[0]
    axis = town.town.warp.world_xy(road.uv(np.arange(-1200.0, 1200.0, 0.5), 0.0))
    lateral = {
        name: [float(np.linalg.norm(axis - mover.path.xy[0], axis=1).min()) for mover in of_class(town, name)]
        for name in ("car", "truck")
    }
    np.testing.assert_allclose(lateral["truck"], (road.lanes - 0.5) * road.lane_m, atol=0.1)
    assert np.ptp(lateral["car"]) > 0.9 * road.lane_m
