"""Kinds of vehicles, cyclists and pedestrians with their sizes, shapes and types, and the mixes of kinds on the streets of towns.

A kind's sizes are those of its label. As in OPV2V, where boxes reach over the mirrors, and in DAIR-V2X, the body is smaller.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from heal.detection.classes import VEHICLES

Span = tuple[float, float]
Outline = tuple[tuple[float, float], ...]

# The kinds that are called like their type; every other kind is a car.
_TYPES = ("truck", "bus", "cyclist", "pedestrian")


@dataclass(frozen=True)
class VehicleKind:
    """A kind of vehicle, cyclist or pedestrian.

    Attributes:
        name: such as "sedan".
        share: share of the traffic; the shares of a mix are relative to their sum.
        length_m: range of the length.
        width_m: range of the width.
        height_m: range of the height.
        deck: side view of the lower body: points (position from the front, height) in shares of the vehicle's length and height.
        cabin: positions of windscreen foot, roof front, roof rear and rear window foot; None without a separate cabin.
        can_carry_sensors: whether an agent can be a vehicle of this kind.
        pace: factor on the speed that is drawn for the traffic.
    """

    name: str
    share: float
    length_m: Span
    width_m: Span
    height_m: Span
    deck: Outline
    cabin: tuple[float, float, float, float] | None
    can_carry_sensors: bool = False
    pace: float = 1.0

    @property
    def object_type(self) -> str:
        """The type of its objects, one of `heal.detection.classes.OBJECT_TYPES`."""
        return self.name if self.name in _TYPES else "car"

    @property
    def is_vehicle(self) -> bool:
        """Whether it is a car, a truck or a bus."""
        return self.object_type in VEHICLES[0].types


@dataclass(frozen=True)
class VehicleMix:
    """The kinds of vehicles and cyclists in a town, with their shares.

    Attributes:
        kinds: the kinds of vehicles.
        margin_m: distance from the body to each side and each end of the label's box; half of it to the top.
    """

    kinds: tuple[VehicleKind, ...]
    margin_m: float


_PLAIN_TRUNK = ((0.0, 0.36), (0.01, 0.46), (0.05, 0.53), (0.26, 0.60), (0.80, 0.63), (0.96, 0.61), (0.99, 0.52), (1.0, 0.36))
_PLAIN_HATCH = ((0.0, 0.36), (0.01, 0.47), (0.06, 0.55), (0.25, 0.61), (0.90, 0.64), (0.98, 0.60), (1.0, 0.40))
_FLAT = ((0.0, 0.28), (0.01, 0.42), (0.1, 0.47), (0.97, 0.48), (1.0, 0.30))
# A bonnet is long and falls to the front; a boot is short, high and ends upright.
_TRUNK = ((0.0, 0.30), (0.01, 0.40), (0.06, 0.47), (0.28, 0.61), (0.82, 0.69), (0.97, 0.67), (0.995, 0.56), (1.0, 0.36))
_HATCH = ((0.0, 0.31), (0.01, 0.41), (0.06, 0.48), (0.24, 0.62), (0.90, 0.67), (0.98, 0.64), (1.0, 0.42))
_HIGH = ((0.0, 0.32), (0.01, 0.45), (0.05, 0.53), (0.23, 0.62), (0.92, 0.66), (0.98, 0.62), (1.0, 0.38))
_NOSE = ((0.0, 0.24), (0.01, 0.36), (0.05, 0.43), (0.14, 0.51), (0.97, 0.55), (1.0, 0.28))
_TRUNK_CABIN, _HATCH_CABIN = (0.27, 0.44, 0.72, 0.87), (0.22, 0.42, 0.90, 0.99)
_HIGH_CABIN, _NOSE_CABIN = (0.21, 0.36, 0.94, 0.99), (0.11, 0.27, 0.98, 0.995)

PLAIN = VehicleMix(
    (
        VehicleKind("compact", 0.22, (3.6, 4.2), (1.68, 1.82), (1.42, 1.58), _PLAIN_HATCH, (0.21, 0.40, 0.88, 0.985), True),
        VehicleKind("sedan", 0.34, (4.3, 5.0), (1.75, 1.95), (1.40, 1.52), _PLAIN_TRUNK, (0.25, 0.42, 0.71, 0.86), True),
        VehicleKind("suv", 0.22, (4.3, 5.0), (1.80, 2.05), (1.60, 1.90), _PLAIN_HATCH, (0.23, 0.37, 0.92, 0.985), True),
        VehicleKind("van", 0.09, (4.7, 5.9), (1.85, 2.08), (1.90, 2.45), _FLAT, (0.02, 0.16, 0.97, 0.99)),
        VehicleKind("pickup", 0.05, (5.0, 5.6), (1.85, 2.05), (1.72, 1.90), _PLAIN_TRUNK, (0.23, 0.34, 0.56, 0.60)),
        VehicleKind("truck", 0.05, (6.0, 9.0), (2.2, 2.5), (2.7, 3.5), _FLAT, None),
        VehicleKind("bus", 0.03, (10.0, 12.0), (2.45, 2.55), (2.9, 3.3), _FLAT, None),
    ),
    margin_m=0.0,
)
STREET = VehicleMix(
    (
        VehicleKind("compact", 0.22, (3.6, 4.2), (1.68, 1.82), (1.42, 1.58), _HATCH, _HATCH_CABIN, True),
        VehicleKind("sedan", 0.34, (4.3, 5.0), (1.75, 1.95), (1.40, 1.52), _TRUNK, _TRUNK_CABIN, True),
        VehicleKind("suv", 0.22, (4.3, 5.0), (1.80, 2.05), (1.60, 1.90), _HIGH, _HIGH_CABIN, True),
        VehicleKind("van", 0.09, (4.7, 5.9), (1.85, 2.08), (1.90, 2.45), _NOSE, _NOSE_CABIN),
        VehicleKind("pickup", 0.05, (5.0, 5.6), (1.85, 2.05), (1.72, 1.90), _TRUNK, (0.25, 0.37, 0.56, 0.60)),
        VehicleKind("truck", 0.05, (6.0, 9.0), (2.2, 2.5), (2.7, 3.5), _FLAT, None),
        VehicleKind("bus", 0.03, (10.0, 12.0), (2.45, 2.55), (2.9, 3.3), _FLAT, None),
    ),
    margin_m=0.1,
)
# Sizes and shares as in the labels of DAIR-V2X.
CROSSING = VehicleMix(
    (
        VehicleKind("compact", 0.16, (3.7, 4.2), (1.70, 1.86), (1.44, 1.60), _HATCH, _HATCH_CABIN, True),
        VehicleKind("sedan", 0.42, (4.15, 4.75), (1.76, 2.0), (1.42, 1.56), _TRUNK, _TRUNK_CABIN, True),
        VehicleKind("suv", 0.21, (4.25, 4.8), (1.84, 2.12), (1.60, 1.85), _HIGH, _HIGH_CABIN, True),
        VehicleKind("van", 0.12, (4.4, 5.2), (1.85, 2.3), (1.80, 2.15), _NOSE, _NOSE_CABIN),
        VehicleKind("pickup", 0.01, (5.0, 5.6), (1.85, 2.05), (1.72, 1.90), _TRUNK, (0.25, 0.37, 0.56, 0.60)),
        VehicleKind("truck", 0.03, (6.0, 9.0), (2.3, 2.6), (2.7, 3.5), _FLAT, None),
        VehicleKind("bus", 0.05, (10.4, 12.1), (2.65, 3.0), (2.95, 3.65), _FLAT, None),
    ),
    margin_m=0.12,
)
CYCLIST = VehicleKind("cyclist", 0.30, (1.75, 2.0), (0.72, 0.9), (1.68, 1.88), _FLAT, None, pace=0.42)
PEDESTRIAN = VehicleKind("pedestrian", 1.0, (0.55, 0.85), (0.55, 0.75), (1.55, 1.92), _FLAT, None)
_SHARES_OF_LARGE = {"truck": 0.15, "bus": 0.12}
MIXED = VehicleMix(
    (*(replace(kind, share=_SHARES_OF_LARGE.get(kind.name, kind.share)) for kind in STREET.kinds), CYCLIST), STREET.margin_m
)
# A highway has long lorries, and nobody on a bicycle.
HIGHWAY = VehicleMix(
    (
        *(kind for kind in STREET.kinds if kind.name not in _SHARES_OF_LARGE),
        VehicleKind("truck", 0.22, (9.0, 14.0), (2.45, 2.6), (3.4, 4.0), _FLAT, None, pace=0.8),
        VehicleKind("bus", 0.06, (11.0, 13.0), (2.5, 2.6), (3.2, 3.8), _FLAT, None, pace=0.85),
    ),
    STREET.margin_m,
)
MIXES: dict[str, VehicleMix] = {"plain": PLAIN, "street": STREET, "crossing": CROSSING, "mixed": MIXED, "highway": HIGHWAY}
