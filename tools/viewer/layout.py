"""The panels of a live view: the scene large at the left, heat maps, series and faults beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from heal.tools.pictures.bev import BACKGROUND
from heal.tools.viewer.log import TIME, rgb
from heal.tools.viewer.numbers import AP_TICKS
from heal.types import Float64

# The eye: behind the ego and above it, in shares of half the range, looking at a point before it.
EYE, LOOK = (-0.85, 0.0, 0.75), (0.15, 0.0, -0.1)


def layout(world_SE3_ego: Float64, range_m: Sequence[float], name: str) -> Any:
    """The blueprint of a run, its eye where the first ego is.

    Args:
        world_SE3_ego: (4, 4) pose of the first ego; the view's origin lies in it.
        range_m: of the grid.
        name: of the run.
    """
    import rerun.blueprint as rrb

    scene = rrb.Spatial3DView(
        origin="/world",
        name=name,
        background=rrb.Background(color=rgb(BACKGROUND)),
        line_grid=rrb.LineGrid3D(visible=False),
        eye_controls=_eye(world_SE3_ego, range_m),
    )
    legend, no_legend = rrb.PlotLegend(corner="rightbottom"), rrb.PlotLegend(visible=False)
    series = rrb.Grid(
        rrb.TimeSeriesView(origin="/boxes", name="boxes", plot_legend=legend),
        rrb.TimeSeriesView(
            origin="/ap", name=f"AP of the last {AP_TICKS} ticks", plot_legend=legend, axis_y=rrb.ScalarAxis(range=(0.0, 1.0))
        ),
        # Their lines are in the agents' colours, as everything of theirs.
        rrb.TimeSeriesView(origin="/bytes", name="kB sent", plot_legend=no_legend),
        rrb.TimeSeriesView(origin="/link_ms", name="ms on the link", plot_legend=no_legend),
        grid_columns=2,
    )
    beside = rrb.Vertical(
        rrb.Spatial2DView(origin="/heat", name="foreground that each agent sees", background=rrb.Background(color=rgb(BACKGROUND))),
        series,
        rrb.TextLogView(origin="/faults", name="faults", columns=rrb.TextLogColumns(text_log_columns=["LogLevel", "Body"])),
        row_shares=[5, 5, 2],
    )
    columns = rrb.Horizontal(scene, beside, column_shares=[5, 3])
    return rrb.Blueprint(columns, rrb.TimePanel(state="collapsed", timeline=TIME), collapse_panels=True)


def _eye(world_SE3_ego: Float64, range_m: Sequence[float]) -> Any:
    import rerun.blueprint as rrb

    forward, left = world_SE3_ego[:2, 0], world_SE3_ego[:2, 1]
    half = min(range_m[3], range_m[4])

    def place(shares: tuple[float, float, float]) -> Float64:
        at: Float64 = half * np.array([*(shares[0] * forward + shares[1] * left), shares[2]])
        return at

    return rrb.EyeControls3D(position=place(EYE), look_target=place(LOOK), eye_up=[0, 0, 1])
