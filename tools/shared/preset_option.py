"""The option of commands that chooses a kind of the built-in town; it imports nothing heavy."""

from __future__ import annotations

from typing import Annotated

import typer

PresetArg = Annotated[
    str,
    typer.Option(
        help="Kind of town: demo, easy, dense, crossing, test, mixed, roundabout, junction, slope or highway. +weather=rain, "
        "+lidar=spinning128 or +roadside_lidar=roadside120 after it change the weather and the LiDARs; see docs/data.md."
    ),
]
