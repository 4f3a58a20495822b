"""Classes of objects: which types of labelled objects a detector finds, and which of them it takes for the same class.

A data set gives each object a type in its own words; `heal.datasets.labels` has the table from these words to `OBJECT_TYPES`. A
class is one of these types, or several. Labels, ground truth and detections carry the number of a class: its place in `Classes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from heal.errors import UserError

OBJECT_TYPES = ("car", "truck", "bus", "cyclist", "pedestrian")
VEHICLE = "vehicle"
MOST_CLASSES = 256  # a larger number is no class: more than any base has, and exact in float16
# The types of the classes that need not list them.
_TYPES_OF = {VEHICLE: ("car", "truck", "bus"), **{name: (name,) for name in OBJECT_TYPES}}


@dataclass(frozen=True)
class ObjectClass:
    """A class of objects.

    Attributes:
        name: such as "vehicle".
        types: the types among `OBJECT_TYPES` that belong to it.
    """

    name: str
    types: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check the types."""
        unknown = [name for name in self.types if name not in OBJECT_TYPES]
        if unknown or not self.types:
            raise UserError(
                f"class {self.name!r}: expected types of {', '.join(OBJECT_TYPES)}, got {', '.join(unknown) or 'none'}; only "
                f"{', '.join(_TYPES_OF)} have types by their names"
            )

    @staticmethod
    def of(name: str, types: Sequence[str] = ()) -> ObjectClass:
        """Make a class; the types may be left out of one that is named after a type, and of "vehicle": cars, trucks and buses."""
        return ObjectClass(name, tuple(types) or _TYPES_OF.get(name, ()))

    def __str__(self) -> str:
        """Return the name and the types."""
        return f"{self.name}: {', '.join(self.types)}"


Classes = tuple[ObjectClass, ...]
VEHICLES: Classes = (ObjectClass.of(VEHICLE),)
"""Vehicles alone, as OPV2V and DAIR-V2X are scored: the classes of every source and base that names none."""
EVERY_TYPE: Classes = tuple(map(ObjectClass.of, OBJECT_TYPES))
"""A class for each type."""


def require_classes(classes: Classes) -> None:
    """Raise UserError if there is no class, if two have the same name, or if a type belongs to two of them."""
    if not classes:
        raise UserError("classes: expected at least one class, got none")
    for what, listed in (("name", class_names(classes)), ("type", [name for one in classes for name in one.types])):
        doubled = sorted({name for name in listed if listed.count(name) > 1})
        if doubled:
            raise UserError(f"classes: expected each {what} once, got {', '.join(doubled)} twice")


@lru_cache(maxsize=256)
def class_number(object_type: str, classes: Classes) -> int | None:
    """Return the number of the class that one of `OBJECT_TYPES` belongs to; None if it belongs to none of them."""
    return next((number for number, one in enumerate(classes) if object_type in one.types), None)


def class_names(classes: Classes) -> tuple[str, ...]:
    """Return the names of classes, by their numbers."""
    return tuple(one.name for one in classes)


def classes_key(classes: Classes) -> tuple[str, ...]:
    """Return what tells classes from others in the key of a cache; nothing for `VEHICLES`, as before there were others."""
    return () if classes == VEHICLES else tuple(map(str, classes))
