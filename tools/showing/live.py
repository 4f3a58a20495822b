"""Show scenes in rerun: clouds, boxes and cameras in 3D, images with the boxes in them, depth, and the warnings as text."""

from __future__ import annotations

from typing import Any

import numpy as np

from heal.box_corners import corners_to_boxes
from heal.tools.pictures.colors import BACKGROUND, FAINT_TEXT, TROUBLE, TRUTH, rgb_bytes
from heal.tools.showing.contents import ShownAgent, ShownCamera, ShownScene
from heal.tools.showing.images import depth_image
from heal.tools.showing.projection import project_box
from heal.tools.viewer.log import EntityPath, TickLog
from heal.tools.viewer.scene import boxes_3d, log_heading, shade, subsample
from heal.types import Float64

MOST_POINTS = 60_000
AGENTS, BOXES, CAPTIONS, DEPTH = ("world", "agents"), ("world", "boxes"), ("captions",), ("depth",)


class LiveScenes:
    """Writes scenes into a rerun recording, one after the other; the time line `tick` has their numbers."""

    def __init__(self, recording: Any) -> None:
        """Start without a scene in a `rerun.RecordingStream`."""
        self._recording, self._log = recording, TickLog(recording)
        self._panels: list[EntityPath] | None = None

    def add(self, number: int, shown: ShownScene) -> None:
        """Show a scene; the panels are set anew if it has other cameras than the scene before."""
        import rerun as rr

        panels = [path for agent in shown.agents for camera in agent.cameras for path in _panels_of(agent, camera)]
        if panels != self._panels:
            self._panels = panels
            self._recording.send_blueprint(_layout(panels))
        self._log.begin(number, shown.timestamp_ns)
        for agent in shown.agents:
            _log_agent(self._log, agent)
        boxes, empty = corners_to_boxes(shown.corners), shown.is_empty
        colors = [rgb_bytes(TROUBLE if is_empty else TRUTH) for is_empty in empty]
        ids = [str(number) for number in shown.ids]
        self._log.show(BOXES, boxes_3d(boxes.astype(np.float32), colors, 0.05, ids, "majorwireframe"))
        lines = [f"# {shown.scene_id}", shown.caption, *(f"**{line}**" for line in shown.warnings)]
        captions = [agent.caption for agent in shown.agents]
        captions += [agent.camera_caption(camera) for agent in shown.agents for camera in agent.cameras]
        text = "\n\n".join([*lines, *captions])
        self._log.show(CAPTIONS, rr.TextDocument(text, media_type=rr.MediaType.MARKDOWN))
        self._log.end()


def _panels_of(agent: ShownAgent, camera: ShownCamera) -> list[EntityPath]:
    """Return the paths of a camera's image, and of its depth image if there is one."""
    image = (*AGENTS, agent.agent_id, camera.view.name, "image")
    return [image] if camera.view.depth_m is None else [image, (*DEPTH, agent.agent_id, camera.view.name)]


def _log_agent(log: TickLog, agent: ShownAgent) -> None:
    """Show an agent's pose, name, cloud and cameras."""
    import rerun as rr

    path, pose = (*AGENTS, agent.agent_id), agent.frame_SE3_agent
    log.show(path, rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]))
    log_heading(log, path, agent.agent_id, agent.color)
    if agent.points is not None and len(agent.points):
        points = subsample(agent.points, MOST_POINTS)
        ground_m = float(np.percentile(points[:, 2], 20))
        log.show((*path, "cloud"), rr.Points3D(points, colors=shade(points, agent.color, ground_m), radii=rr.Radius.ui_points(1.2)))
    for camera in agent.cameras:
        _log_camera(log, agent, camera)


def _log_camera(log: TickLog, agent: ShownAgent, camera: ShownCamera) -> None:
    """Show a camera at its place, its image with the boxes that hold points of the agent, and its depth image."""
    import rerun as rr

    view, (path, *depth) = camera.view, _panels_of(agent, camera)
    pose, (height, width) = view.agent_SE3_camera, view.image.shape[:2]
    log.show(path[:-1], rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]))
    pinhole = rr.Pinhole(image_from_camera=view.intrinsic, resolution=[width, height], camera_xyz=rr.ViewCoordinates.RDF)
    log.show(path, pinhole, rr.Image(view.image).compress(jpeg_quality=85))
    outlines: list[Float64] = []
    colors: list[tuple[int, int, int]] = []
    for corners, hits, is_own in zip(agent.corners, agent.hits, agent.is_own, strict=True):
        for outline in () if is_own else project_box(view, corners).near:
            outlines.append(np.concatenate([outline, outline[:1]]))
            colors.append(rgb_bytes(TRUTH if hits else FAINT_TEXT))
    log.show((*path, "boxes"), rr.LineStrips2D(outlines, colors=colors))
    if view.depth_m is not None:
        log.show(depth[0], rr.Image(depth_image(view.depth_m)))


def _layout(panels: list[EntityPath]) -> Any:
    """Return rerun's blueprint: the scene on the left; all images and depth images, and the captions, on the right."""
    import rerun.blueprint as rrb

    background = rrb.Background(color=rgb_bytes(BACKGROUND))
    scene = rrb.Spatial3DView(origin="/world", name="scene", background=background, line_grid=rrb.LineGrid3D(visible=False))
    names = ["/".join(part for part in path if part not in AGENTS) for path in panels]
    images = [
        rrb.Spatial2DView(origin="/" + "/".join(path), name=name, background=background)
        for path, name in zip(panels, names, strict=True)
    ]
    captions = rrb.TextDocumentView(origin="/captions", name="captions")
    beside = rrb.Vertical(rrb.Grid(*images), captions, row_shares=[3, 1]) if images else captions
    columns = rrb.Horizontal(scene, beside, column_shares=[3, 2])
    return rrb.Blueprint(columns, rrb.TimePanel(state="expanded", timeline="tick"), collapse_panels=True)
