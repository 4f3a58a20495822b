"""Named presets of towns: the density of streets and buildings, the traffic, and the properties of the sensors."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from heal.config import config
from heal.types import AgentKind, Float64

Range = tuple[float, float]


@config
class TownPreset:
    """The settings of a town. A number within each range is drawn for every town, for sensors a number for every agent.

    Attributes:
        name: the preset's name for `--preset`.
        streets: number of parallel streets in each direction.
        block_m: distance between the centre lines of parallel streets.
        lanes: smallest and largest number of lanes per direction.
        bend_m: amplitude of the streets' bends.
        slope_deg: steepest slope of the ground.
        hillside: whether the middle of the town lies where the ground is steepest.
        layout: the streets: a "grid", a grid with a "roundabout" in its middle, a grid whose middle is a T-"junction", or one
            "highway".
        built_share: share of the blocks that are built up to the corners; the rest are houses, parks and car parks.
        clutter: density of trees, poles, people, signs; 1 is a normal street.
        tree_scale: factor on the sizes of trees.
        belt_share: share of the sides of blocks with a green belt of trees, bushes and hedges.
        railing_share: share of the streets with a railing on the centre line.
        leaf_m: mean length of a laser's way into leaves before it is reflected; 0 for crowns and hedges that are solid.
        weather: weather and time of day, a key of `heal.datasets.town.sensors.weather.WEATHERS`.
        vehicle_mix: the vehicles and cyclists on the streets, a key of `heal.datasets.town.world.kinds.MIXES`.
        parked_share: share of the places at the kerb with a parked vehicle.
        moving: smallest and largest number of moving vehicles and cyclists besides the agents.
        walkers: smallest and largest number of pedestrians on the pavements and crossings.
        names_classes: whether written labels name the class of each object.
        traffic_speed: desired speed of the moving vehicles besides the agents in m/s.
        left_hand_share: share of the towns that drive on the left.
        vehicles: number of agents that are vehicles; the first is the ego.
        roadside: number of roadside units.
        agent_speed: desired speed of the agents in m/s.
        agent_distance_m: distance of the agents from the crossing at the start.
        lidars: names of the vehicles' LiDARs to draw from, keys of `heal.datasets.town.sensors.lidar_kinds.LIDARS`.
        roadside_lidars: names of the roadside units' LiDARs to draw from.
        lidar_height_m: height of a vehicle's LiDAR above the ground.
        mount_deg: largest error of the vehicle LiDAR's mounting in roll and pitch.
        pole_m: height of a roadside unit.
        range_noise_m: standard deviation of the LiDAR's range.
        loss_share: share of the returns lost at random.
        gain: factor on the intensity.
        gamma: exponent on the intensity.
        speckle: standard deviation of the intensity's logarithm from point to point.
        views: cameras of an agent: four "around", or one "ahead".
        image_px: width and height of the images.
        focal_px: focal length.
        roadside_focal_px: focal length of the roadside units' cameras; None for the same.
        frames_per_scenario: number of frames that `heal generate` writes of one town.
        stride: ticks of 0.1 s from one written frame to the next.
    """

    name: str
    streets: int = 4
    block_m: Range = (46.0, 74.0)
    lanes: tuple[int, int] = (1, 2)
    bend_m: Range = (0.0, 5.0)
    slope_deg: Range = (0.2, 1.6)
    hillside: bool = False
    layout: Literal["grid", "roundabout", "junction", "highway"] = "grid"
    built_share: Range = (0.5, 0.95)
    clutter: Range = (0.5, 1.4)
    tree_scale: float = 1.0
    belt_share: float = 0.0
    railing_share: float = 0.0
    leaf_m: float = 0.6
    weather: str = "day"
    vehicle_mix: str = "street"
    parked_share: Range = (0.3, 0.8)
    moving: tuple[int, int] = (14, 34)
    walkers: tuple[int, int] = (0, 0)
    names_classes: bool = False
    traffic_speed: Range = (6.0, 13.0)
    left_hand_share: float = 0.35
    vehicles: int = 3
    roadside: int = 1
    agent_speed: Range = (3.5, 8.0)
    agent_distance_m: Range = (24.0, 50.0)
    lidars: tuple[str, ...] = ("uniform64", "uniform64", "dense_middle40")
    roadside_lidars: tuple[str, ...] = ("uniform64", "sector300")
    lidar_height_m: Range = (1.7, 2.05)
    mount_deg: float = 0.8
    pole_m: Range = (5.0, 7.0)
    range_noise_m: Range = (0.01, 0.03)
    loss_share: Range = (0.0, 0.08)
    gain: Range = (0.45, 1.5)
    gamma: Range = (0.45, 1.7)
    speckle: float = 0.25
    views: Literal["around", "ahead"] = "around"
    image_px: tuple[int, int] = (400, 300)
    focal_px: float = 167.819926235456
    roadside_focal_px: float | None = None
    frames_per_scenario: int = 4
    stride: int = 15

    def focal_px_of(self, kind: AgentKind) -> float:
        """Return the focal length of the cameras of a kind of agent."""
        return self.roadside_focal_px if kind == "roadside" and self.roadside_focal_px is not None else self.focal_px

    def intrinsic_of(self, kind: AgentKind) -> Float64:
        """Return the camera matrix (3, 3) in pixels of a kind of agent; the optical axis goes through the middle of the image."""
        (width, height), focal_px = self.image_px, self.focal_px_of(kind)
        return np.array([[focal_px, 0.0, width / 2], [0.0, focal_px, height / 2], [0.0, 0.0, 1.0]])

    def with_images(self, image_px: tuple[int, int]) -> TownPreset:
        """Return the preset with images of another size; focal lengths scale with the width: the horizontal field of view stays."""
        scale, roadside = image_px[0] / self.image_px[0], self.roadside_focal_px
        roadside = None if roadside is None else roadside * scale
        return replace(self, image_px=image_px, focal_px=self.focal_px * scale, roadside_focal_px=roadside)


DEMO = TownPreset(name="demo")
MIXED = replace(
    DEMO,
    name="mixed",
    vehicle_mix="mixed",
    walkers=(24, 48),
    names_classes=True,
    lidars=("uniform64", "spinning40", "spinning128"),
    roadside_lidars=("uniform64", "roadside120"),
)

PRESETS: dict[str, TownPreset] = {
    preset.name: preset
    for preset in (
        DEMO,
        replace(DEMO, name="easy", built_share=(0.0, 0.3), parked_share=(0.05, 0.25), moving=(8, 16), clutter=(0.2, 0.6)),
        replace(DEMO, name="dense", built_share=(0.7, 1.0), parked_share=(0.6, 0.9), moving=(34, 56), lanes=(1, 3)),
        replace(
            DEMO,
            name="crossing",
            block_m=(80.0, 120.0),
            streets=3,
            lanes=(2, 5),
            built_share=(0.0, 0.4),
            slope_deg=(0.2, 2.2),
            clutter=(0.8, 1.8),
            tree_scale=1.5,
            belt_share=0.7,
            railing_share=0.4,
            vehicle_mix="crossing",
            moving=(24, 60),
            parked_share=(0.0, 0.3),
            vehicles=1,
            agent_distance_m=(18.0, 75.0),
            lidars=("dense_middle40",),
            roadside_lidars=("sector300",),
            lidar_height_m=(1.8, 2.1),
            pole_m=(6.0, 8.0),
            loss_share=(0.0, 0.03),
            gain=(0.5, 1.8),
            gamma=(0.4, 1.3),
            views="ahead",
            image_px=(480, 270),
            focal_px=199.3,
            roadside_focal_px=546.6,
        ),
        replace(
            DEMO,
            name="test",
            streets=2,
            block_m=(40.0, 48.0),
            moving=(5, 6),
            vehicles=2,
            clutter=(0.2, 0.3),
            leaf_m=0.0,
            vehicle_mix="plain",
            gamma=(0.6, 1.7),
            speckle=0.0,
            lidars=("coarse16",),
            roadside_lidars=("coarse16",),
            image_px=(80, 60),
            focal_px=33.5639852470912,
            frames_per_scenario=2,
            stride=5,
        ),
        MIXED,
        replace(MIXED, name="roundabout", layout="roundabout", streets=3, block_m=(62.0, 80.0), lanes=(1, 1), moving=(14, 26)),
        replace(MIXED, name="junction", layout="junction", streets=3, block_m=(56.0, 80.0)),
        replace(MIXED, name="slope", hillside=True, slope_deg=(6.0, 9.0), streets=3),
        replace(
            DEMO,
            name="highway",
            layout="highway",
            lanes=(2, 4),
            slope_deg=(0.2, 1.5),
            vehicle_mix="highway",
            names_classes=True,
            moving=(40, 70),
            agent_speed=(20.0, 26.0),
            agent_distance_m=(15.0, 60.0),
            traffic_speed=(20.0, 34.0),
            lidars=("uniform64", "spinning40", "spinning128"),
        ),
    )
}
