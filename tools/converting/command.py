"""`heal convert`: write the scenes of a data set, or of bags of ROS 2, in OPV2V's layout, as bags or into a cache."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console

from heal.detection.classes import EVERY_TYPE, VEHICLES
from heal.errors import UserError, naming_errors_after
from heal.tools.shared.arguments import IntensityScaleArg, OnDamageArg
from heal.tools.shared.output import try_folder
from heal.tools.shared.sources import ReadOptions
from heal.tools.terminal.progress import Bar, progress_bar
from heal.types import Sensor

if TYPE_CHECKING:
    from heal.datasets.ros.images import ImageForm
    from heal.datasets.ros.layout import BagOptions
    from heal.tools.converting.caching import CacheOptions
    from heal.tools.converting.recordings import Recording
    from heal.types import Scene


class Target(str, Enum):
    """What is written."""

    OPV2V = "opv2v"
    MCAP = "mcap"
    CACHE = "cache"


class Images(str, Enum):
    """How a bag or a cache keeps images."""

    PNG = "png"
    JPEG = "jpeg"
    RAW = "raw"


_FORMS: dict[Images, ImageForm] = {Images.PNG: "png", Images.JPEG: "jpeg", Images.RAW: "raw"}


class Hand(str, Enum):
    """The axes of a world: y to the left is right-handed, as in ROS; y to the right is left-handed, as in CARLA."""

    LEFT = "left"
    RIGHT = "right"


RootArg = Annotated[Path, typer.Argument(help="Data set of any layout, an MCAP file, the folder of a bag, or a folder of bags.")]
OutArg = Annotated[Path, typer.Option(help="Folder to write to; what it holds already is kept.")]
ToArg = Annotated[
    Target,
    typer.Option(
        help="opv2v: OUT/OPV2V and OUT/OPV2V_Hetero; mcap: a bag of ROS 2 for each scenario, OUT/SPLIT/SCENARIO; cache: a folder "
        "for --cache of other commands."
    ),
]
SplitArg = Annotated[str | None, typer.Option(help="Splits, separated by commas. Default: all; a bag goes to train.")]
ImagesArg = Annotated[
    Images | None,
    typer.Option(
        help="Images in bags: png (the default), jpeg, which changes the pixels, or raw. Images in a cache: packed without loss by "
        "default, or raw, which is several times as large and is read faster."
    ),
]
SensorsArg = Annotated[
    str | None, typer.Option(help="Sensors that go to a cache: lidar, camera, depth, separated by commas. Default: all.")
]
WorkersArg = Annotated[
    int, typer.Option(min=0, help="Number of processes that fill a cache; 0 for one per core that the process may use.")
]
HandArg = Annotated[
    Hand | None,
    typer.Option(
        "--hand",
        help="Hand of the data set's axes: right if y points to the left, else left. A bag is right-handed, so it holds the mirror "
        "image of left-handed scenes, which is undone when it is read. Default: as the cameras tell, else left for OPV2V's layout.",
    ),
]
EgoArg = Annotated[str | None, typer.Option(help="Agent of a bag whose clouds are the scenes. Default: the first vehicle by name.")]
WorldArg = Annotated[str | None, typer.Option(help="Frame of a bag that is the world. Default: map, world or odom.")]
CloudArg = Annotated[list[str] | None, typer.Option(help="Topic of clouds to read of a bag, one for each agent; may be repeated.")]
ToleranceArg = Annotated[
    float, typer.Option(min=0, help="Greatest distance in time between the parts of a scene of a bag, in milliseconds.")
]

EveryTypeArg = Annotated[
    bool, typer.Option("--every-type", help="Convert cyclists and pedestrians too, each object with its type. Default: vehicles.")
]


@dataclass(frozen=True)
class Writing:
    """How the recordings are written.

    Attributes:
        out: the folder.
        to: the form.
        images: how a bag keeps images.
        hand: hand of the axes; None to judge it.
    """

    out: Path
    to: Target
    images: Images
    hand: Hand | None


def convert(
    root: RootArg,
    out: OutArg,
    to: ToArg = Target.OPV2V,
    split: SplitArg = None,
    images: ImagesArg = None,
    sensors: SensorsArg = None,
    workers: WorkersArg = 0,
    hand: HandArg = None,
    ego: EgoArg = None,
    world_frame: WorldArg = None,
    cloud: CloudArg = None,
    tolerance_ms: ToleranceArg = 50.0,
    every_type: EveryTypeArg = False,
    on_damage: OnDamageArg = "stop",
    intensity_scale: IntensityScaleArg = None,
) -> None:
    """Convert a data set to OPV2V's layout, to bags of ROS 2 (MCAP) or to a cache, or bags to OPV2V's layout.

    Every sensor is converted. A scenario is there as a whole or not at all, and has a file SHA256SUMS; entries of a cache have
    checksums. Repeat an interrupted command to convert what is missing.

    \b
    heal convert DAIR_ROOT --out runs/dair-as-opv2v
    heal convert DAIR_ROOT --to cache --out runs/cache
    heal convert drive.mcap --split test --world-frame odom --out runs/drive
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    from heal.datasets.ros.layout import BagOptions
    from heal.tools.converting.caching import CacheOptions

    _require_fitting(to, sensors, images, every_type)
    splits = None if split is None else [name.strip() for name in split.split(",")]
    reading = ReadOptions.of(on_damage, intensity_scale, every_agent=True)
    if to is Target.CACHE:
        reading = replace(reading, cache=out.absolute(), every_agent=False)
        _fill(root, splits, CacheOptions(out, reading, _sensors(sensors), images is None, workers))
        return
    reading = replace(reading, classes=EVERY_TYPE if every_type else VEHICLES)
    options = BagOptions(ego, world_frame, tuple(cloud or ()), round(tolerance_ms * 1e6), intensity_scale, reading.classes)
    _write(_find_recordings(root, splits, to, reading, options), Writing(out, to, images or Images.PNG, hand))


def _require_fitting(to: Target, sensors: str | None, images: Images | None, every_type: bool) -> None:
    """Raise UserError for options that belong to another form."""
    if to is not Target.CACHE and sensors is not None:
        raise UserError("--sensors chooses what goes to a cache (--to cache); the other forms get every sensor")
    if to is Target.CACHE and every_type:
        raise UserError(
            "--every-type: a cache keeps the objects of each training's own classes, and the training adds those it lacks"
        )
    if to is Target.CACHE and images not in (None, Images.RAW):
        raise UserError(f"--images {images.value}: a cache keeps every pixel as it is; leave it out, or take --images raw")


def _write(recordings: list[Recording], how: Writing) -> None:
    """Write recordings, and print what has been written."""
    console = Console()
    try_folder(how.out)
    try:
        with naming_errors_after(how.out):
            written = write_recordings(recordings, how, console)
    except KeyboardInterrupt:
        console.print("stopped; the same command converts the missing scenarios")
        raise typer.Exit(130) from None
    _print_summary(recordings, written, how.out, console)


def _fill(root: Path, splits: list[str] | None, options: CacheOptions) -> None:
    """Fill a cache with a data set; UserError for bags."""
    from heal.tools.converting.caching import fill_cache
    from heal.tools.converting.recordings import find_bags

    console = Console()
    if find_bags(root, splits):
        raise UserError(f"{root} holds bags; convert them to OPV2V's layout first")
    try_folder(options.folder)
    try:
        fill_cache(root, splits, options, console)
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from there")
        raise typer.Exit(130) from None


def _sensors(text: str | None) -> frozenset[Sensor] | None:
    """Return the sensors that a text names, separated by commas; None for no text."""
    if text is None:
        return None
    known: dict[str, Sensor] = {name: name for name in get_args(Sensor)}
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"--sensors: expected {', '.join(known)}, got {unknown[0]!r}")
    return frozenset(known[name] for name in names)


def _find_recordings(
    root: Path, splits: list[str] | None, to: Target, reading: ReadOptions, options: BagOptions
) -> list[Recording]:
    """Return the recordings of bags, or else of a data set, whose summaries are printed; UserError for bags as bags."""
    from heal.tools.converting.recordings import find_bags, recordings_of_bags, recordings_of_dataset

    bags = find_bags(root, splits)
    if not bags:
        return recordings_of_dataset(root, splits, reading, partial(Console().print, markup=False))
    if to is Target.MCAP:
        raise UserError(f"{root} holds bags already; --to opv2v converts them to OPV2V's layout")
    return recordings_of_bags(bags, options)


def write_recordings(recordings: list[Recording], how: Writing, console: Console) -> list[int | None]:
    """Write recordings with a progress bar; return the number of scenes of each, None for one that existed already."""
    write = _write_opv2v if how.to is Target.OPV2V else _write_bag
    with progress_bar("scenes", sum(recording.count for recording in recordings), console) as bar:
        return [write(recording, how, bar) for recording in recordings]


def _write_opv2v(recording: Recording, how: Writing, bar: Bar) -> int | None:
    """Write a recording as a scenario of OPV2V's layout; UserError if it was made from something else."""
    from heal.datasets.opv2v.writer import read_protocol, scenario_path, write_scenario

    split, name, made_from = recording.split, recording.name, dict(recording.made_from)
    there = read_protocol(how.out, split, name)
    if there is not None:
        _require_same(scenario_path(how.out, split, name), there.get("converted"), made_from)
        _skip(recording, bar)
        return None
    protocol = {"description": "Converted by heal convert.", "converted": made_from}
    with closing(_counted(recording, bar)) as scenes:
        kinds: dict[str, Any] = {"labelled": recording.labelled, "classes": recording.classes}
        return write_scenario(scenes, how.out, split, name, **kinds, protocol=protocol)


def _write_bag(recording: Recording, how: Writing, bar: Bar) -> int | None:
    """Write a recording as a bag; UserError if the bag was made from something else."""
    from heal.datasets.ros.writer import read_made_from, write_bag

    folder = how.out / recording.split / recording.name
    made_from = {**recording.made_from, "images": how.images.value, "hand": how.hand and how.hand.value}
    there = read_made_from(folder)
    if there is not None:
        _require_same(folder, there, made_from)
        _skip(recording, bar)
        return None
    with closing(_counted(recording, bar)) as scenes:
        first = next(scenes, None)
        left_handed = _is_left_handed(first, recording, how.hand)
        every = itertools.chain([] if first is None else [first], scenes)
        kinds: dict[str, Any] = {"labelled": recording.labelled, "classes": recording.classes, "made_from": made_from}
        return write_bag(every, folder, left_handed=left_handed, images=_FORMS[how.images], **kinds)


def _is_left_handed(first: Scene | None, recording: Recording, hand: Hand | None) -> bool:
    """Return whether the world of a recording is left-handed: as is said, or as the first scene's cameras or the layout tell."""
    from heal.datasets.ros.handedness import is_left_handed

    if hand is not None:
        return hand is Hand.LEFT
    seen = None if first is None else is_left_handed(first)
    return recording.left_handed if seen is None else seen


def _counted(recording: Recording, bar: Bar) -> Generator[Scene, None, None]:
    """Yield the scenes of a recording, and count them on the bar."""
    bar.describe(f"{recording.split}/{recording.name}")
    for scene in recording.scenes():
        yield scene
        bar.advance()


def _skip(recording: Recording, bar: Bar) -> None:
    """Count the scenes of a recording that is there already."""
    for _ in range(recording.count):
        bar.advance()


def _require_same(path: Path, there: Any, wanted: Any) -> None:
    """Raise UserError if what is there was made from something else."""
    if there != wanted:
        raise UserError(f"{path} was made from {there}, not from {wanted}; remove it or choose another --out")


def _print_summary(recordings: list[Recording], written: list[int | None], out: Path, console: Console) -> None:
    for line in (line for recording in recordings for line in recording.left_out):
        console.print(f"  {line}", markup=False, soft_wrap=True)
    scenes, existed = sum(count or 0 for count in written), written.count(None)
    console.print(
        f"{out}: {len(written)} scenarios ({existed} existed already), {scenes} scenes written", markup=False, soft_wrap=True
    )
