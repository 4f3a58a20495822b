"""`heal show`: look at the scenes of a data set, as a page, as pictures, or live in 3D."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import heal
from heal.datasets.dataset import DatasetError
from heal.tools.pictures.draw import save_image
from heal.tools.pictures.marks import figure_image
from heal.tools.shared.arguments import SourceSplitArg
from heal.tools.shared.made_by import command_line
from heal.tools.shared.output import try_folder
from heal.tools.shared.preset_option import PresetArg
from heal.tools.shared.sources import TOWN, ReadOptions, open_source, source_name, split_name
from heal.tools.shared.type_argument import split_names
from heal.tools.showing.choosing import DEFAULT_SCENES, choose_scenes
from heal.tools.showing.contents import ShownScene, contents_of
from heal.tools.showing.figure import draw_contents
from heal.tools.showing.live import LiveScenes
from heal.tools.showing.page import PageScene, require_replaceable, write_scenes_page
from heal.tools.showing.reading import read_scene
from heal.tools.terminal.progress import track
from heal.tools.viewer.viewer import LiveView, open_recording
from heal.types import SceneSource

PAGE = Path("runs/show.html")
EXAMPLES = """\b
heal show town --first 2
heal show DATA --split train --html runs/train.html
heal show DATA --scenes 0,5,10 --agents 641,650 --out runs/pictures
heal show DATA --scenario 2021_08_22_21_41_24 --view web
"""
console = Console(soft_wrap=True)

RootArg = Annotated[str, typer.Argument(metavar="ROOT", help=f"Folder of scenes: OPV2V layout or DAIR-V2X-C; or {TOWN}.")]
HtmlArg = Annotated[
    Path | None, typer.Option(help=f"Write a page of the scenes to this file. Default: {PAGE}, if no output is named.")
]
OutArg = Annotated[Path | None, typer.Option(help="Write a picture of each scene (PNG) to this folder.")]
ViewArg = Annotated[
    str | None, typer.Option(help="Watch the scenes in 3D: native opens a window, web serves a page for a browser.")
]
RecordArg = Annotated[Path | None, typer.Option(help="Write the 3D view to this .rrd file; `heal view` plays it.")]
ScenesArg = Annotated[
    str | None,
    typer.Option(
        "--scenes",
        help=f"Numbers of scenes, such as 0,5,10, in the split or --scenario. Default: {DEFAULT_SCENES}, spread evenly.",
    ),
]
FirstArg = Annotated[int | None, typer.Option(min=1, help="Only so many scenes from the beginning.")]
ScenarioArg = Annotated[str | None, typer.Option(help="Only scenes of this recording.")]
AgentsArg = Annotated[str | None, typer.Option(metavar="ID,ID", help="Only these agents, separated by commas. Default: all.")]
FrameArg = Annotated[str, typer.Option(help="Frame of the views from above: ego, or world for the world's axes around the ego.")]
BoxesArg = Annotated[bool, typer.Option("--boxes/--no-boxes", help="Draw and count labelled boxes.")]
ImagesArg = Annotated[bool, typer.Option("--images/--no-images", help="Read and draw images and depth.")]
RangeArg = Annotated[
    tuple[float, float, float, float, float, float] | None,
    typer.Option(
        help="Show only this range of the frame, in metres: x_min y_min z_min x_max y_max z_max. Default: agents and boxes."
    ),
]
SeedArg = Annotated[int, typer.Option(min=0, help="Seed of the town.")]


@dataclass(frozen=True)
class Look:
    """What is shown of each scene: the options of these names."""

    agents: list[str] | None
    frame: str
    range_m: Sequence[float] | None
    boxes: bool
    images: bool

    def at(self, source: SceneSource, index: int) -> ShownScene:
        """Read a scene, and return what is shown of it."""
        return contents_of(read_scene(source, index, self.agents, self.images), self.frame, self.range_m, self.boxes)


@dataclass
class Outputs:
    """Where the scenes go: a page, a folder of pictures, a view; each may be None.

    Attributes:
        html: the file of the page.
        out: the folder of the pictures.
        live: the view.
        title: of the page.
        made_by: what makes the outputs, in two lines.
        entries: the scenes of the page so far.
    """

    html: Path | None
    out: Path | None
    live: LiveScenes | None
    title: str
    made_by: str
    entries: list[PageScene] = field(default_factory=list)

    def add(self, number: int, shown: ShownScene) -> None:
        """Draw a scene for every output."""
        if self.live is not None:
            self.live.add(number, shown)
        if self.html is None and self.out is None:
            return
        image = figure_image(draw_contents(shown, margin=self.made_by))
        if self.out is not None:
            save_image(image, self.out / f"scene_{number:06d}.png")
        if self.html is not None:
            self.entries.append(PageScene.of(number, shown, image))

    def close(self) -> None:
        """Write the page, with the scenes so far: an interrupted command leaves what it has drawn."""
        if self.html is not None and self.entries:
            write_scenes_page(self.html, self.title, self.entries, self.made_by)
            console.print(f"page: {self.html}", markup=False, highlight=False)
        if self.out is not None:
            console.print(f"pictures: {self.out}", markup=False, highlight=False)


def show(
    context: typer.Context,
    root: RootArg,
    split: SourceSplitArg = None,
    html: HtmlArg = None,
    out: OutArg = None,
    view: ViewArg = None,
    record: RecordArg = None,
    scenes: ScenesArg = None,
    first: FirstArg = None,
    scenario: ScenarioArg = None,
    agents: AgentsArg = None,
    frame: FrameArg = "ego",
    boxes: BoxesArg = True,
    images: ImagesArg = True,
    range_m: RangeArg = None,
    preset: PresetArg = "demo",
    seed: SeedArg = 0,
) -> None:
    """Look at a data set: clouds, boxes, images, depth, and what does not fit."""
    if html is None and out is None and view is None and record is None:
        html = PAGE
    source = open_source(root, preset, split, None, seed, ReadOptions("skip", every_agent=True))
    numbers = choose_scenes(source, scenes, first, scenario)
    look = Look(split_names(agents) or None, frame, range_m, boxes, images)
    title = f"{source_name(root, preset)} ({split_name(root, split)})"
    made_by = f"{command_line(context)}\nheal {heal.__version__}, {datetime.now(timezone.utc).isoformat(timespec='seconds')}"
    _try_outputs(html, out)
    with ExitStack() as stack:
        live = stack.enter_context(LiveView(*open_recording(view, record, title))) if view or record else None
        if live is not None and live.address:
            console.print(f"watch: {live.address}")
        outputs = Outputs(html, out, LiveScenes(live.recording) if live else None, title, made_by)
        with closing(outputs):
            _show_scenes(source, numbers, look, outputs)
        if live is not None:
            live.wait()


def _try_outputs(html: Path | None, out: Path | None) -> None:
    """Check before the work that the page and the pictures can be written."""
    if html is not None:
        require_replaceable(html)
        try_folder(html.parent)
    if out is not None:
        try_folder(out)


def _show_scenes(source: SceneSource, numbers: Sequence[int], look: Look, outputs: Outputs) -> None:
    """Show scenes one after the other, and print what does not fit.

    Raises:
        DatasetError: not one of the scenes can be read.
    """
    failed: list[DatasetError] = []
    for number in track(numbers, "drawing scenes", len(numbers), console, transient=True):
        try:
            shown = look.at(source, number)
        except DatasetError as error:
            console.print(f"scene {number} is left out: {error}", markup=False, highlight=False)
            failed.append(error)
            continue
        outputs.add(number, shown)
        for line in shown.warnings:
            console.print(f"scene {number}, {shown.scene_id}: {line}", markup=False, highlight=False)
    if len(failed) == len(numbers):
        raise failed[0]
