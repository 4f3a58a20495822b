"""The panels of the live view: the 3D scene on the left; heat maps, series and faults on the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from heal.tools.pictures.colors import BACKGROUND, rgb_bytes
from heal.tools.viewer.log import TIME
from heal.tools.viewer.numbers import AP_TICKS
from heal.types import Float64

# Camera position and the point it looks at: (forward, left, up) of the ego, as multiples of half the range.
CAMERA, LOOK_AT = (-0.85, 0.0, 0.75), (0.15, 0.0, -0.1)


def layout(world_SE3_ego: Float64, range_m: Sequence[float], name: str, has_cameras: bool) -> Any:
    """Return rerun's blueprint for a run, with the camera behind the first ego.

    Args:
        world_SE3_ego: (4, 4) world pose of the first ego; the origin of the view is the ego's position.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max of the grid around every agent.
        name: name of the run, shown above the scene.
        has_cameras: whether there is a panel for what cameras see.
    """
    import rerun.blueprint as rrb

    background = rrb.Background(color=rgb_bytes(BACKGROUND))
    scene = rrb.Spatial3DView(
        origin="/world",
        name=name,
        background=background,
        line_grid=rrb.LineGrid3D(visible=False),
        eye_controls=_camera(world_SE3_ego, range_m),
    )
    legend, no_legend = rrb.PlotLegend(corner="rightbottom"), rrb.PlotLegend(visible=False)
    series = rrb.Grid(
        rrb.TimeSeriesView(origin="/boxes", name="boxes", plot_legend=legend),
        rrb.TimeSeriesView(
            origin="/ap", name=f"AP of the last {AP_TICKS} ticks", plot_legend=legend, axis_y=rrb.ScalarAxis(range=(0.0, 1.0))
        ),
        # Every line has the colour of its agent, so a legend would only repeat the scene's.
        rrb.TimeSeriesView(origin="/bytes", name="kB sent", plot_legend=no_legend),
        rrb.TimeSeriesView(origin="/link_ms", name="ms on the link", plot_legend=no_legend),
        grid_columns=2,
    )
    heat = rrb.Spatial2DView(origin="/heat", name="foreground score of each agent", background=background)
    cameras = rrb.Spatial2DView(origin="/cameras", name="what the cameras see", background=background)
    beside = rrb.Vertical(
        rrb.Vertical(heat, cameras) if has_cameras else heat,
        series,
        rrb.TextLogView(origin="/faults", name="faults", columns=rrb.TextLogColumns(text_log_columns=["LogLevel", "Body"])),
        row_shares=[8, 5, 2] if has_cameras else [5, 5, 2],
    )
    columns = rrb.Horizontal(scene, beside, column_shares=[5, 3])
    return rrb.Blueprint(columns, rrb.TimePanel(state="collapsed", timeline=TIME), collapse_panels=True)


def _camera(world_SE3_ego: Float64, range_m: Sequence[float]) -> Any:
    """Return rerun's controls for a camera behind the ego and above it."""
    import rerun.blueprint as rrb

    forward, left = world_SE3_ego[:2, 0], world_SE3_ego[:2, 1]
    half = min(range_m[3], range_m[4])

    def in_view(x: float, y: float, z: float) -> Float64:
        point_m: Float64 = half * np.array([*(x * forward + y * left), z])
        return point_m

    return rrb.EyeControls3D(position=in_view(*CAMERA), look_target=in_view(*LOOK_AT), eye_up=[0, 0, 1])
