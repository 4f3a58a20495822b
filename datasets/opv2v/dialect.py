"""The data sets in OPV2V's layout that differ from OPV2V in their metadata, names or clouds; the reader of OPV2V does the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from heal.datasets.dataset import Collaboration, LabelRule
from heal.datasets.opv2v.frame_numbers import STAMP_NS
from heal.datasets.opv2v.index import METADATA_NAME
from heal.datasets.opv2v.metadata import Parse, parse_metadata
from heal.detection.classes import VEHICLES, Classes
from heal.errors import UserError
from heal.types import is_roadside_name

FRAME_NS = 100_000_000  # real LiDARs sweep ten times a second


@dataclass(frozen=True)
class Dialect:
    """What is particular to a data set in OPV2V's layout.

    Attributes:
        name: the data set's name.
        parse: converts the content of a metadata file. This is where its axes, units and keys become those of OPV2V.
        is_roadside: whether an agent of this name is a roadside unit.
        stamp_ns: the time in ns from a frame to the one with the next number; None if it is not known. Then the smallest step of a
            recording counts as `FRAME_NS`.
        lines: laser lines of the agents' own clouds; None if they differ or are not known.
        intensity_top: the value that stands for the intensity 1; None to judge it by the clouds.
        rings: whether clouds in .bin files have a fifth column, the laser line of each point; None to judge it by each file.
        own_ids: whether the agents number their objects independently, so that their labels may have to be merged by overlap.
        root: pattern of the name of the data set's folder; None for any name.
        recording: pattern of the names of its recordings.
        entry: pattern of an entry that only its metadata have, in the text of a file.
    """

    name: str
    parse: Parse = parse_metadata
    is_roadside: Callable[[str], bool] = is_roadside_name
    stamp_ns: int | None = FRAME_NS
    lines: int | None = None
    intensity_top: float | None = None
    rings: bool | None = False
    own_ids: bool = False
    root: re.Pattern[str] | None = None
    recording: re.Pattern[str] | None = None
    entry: re.Pattern[bytes] | None = None

    def wrote(self, root: Path, metadata: Path) -> bool:
        """Whether a metadata file below `root` is one of this data set, by the names of folders or else by its text."""
        folders = (root.absolute(), root.resolve())
        is_named = self.root is None or any(self.root.search(name) for path in folders for name in (path.name, path.parent.name))
        if is_named and self.recording is not None and self.recording.fullmatch(metadata.parent.parent.name):
            return True
        return self.entry is not None and self.entry.search(_text(metadata)) is not None


OPV2V = Dialect("OPV2V", stamp_ns=STAMP_NS, lines=64)


@dataclass(frozen=True)
class Rules:
    """How a data set in OPV2V's layout is read.

    Attributes:
        dialect: what is particular to the data set.
        collaboration: the kinds of the ego and of the other agents; None for any, vehicles first.
        ground_truth: "joint" joins the labels of a scene's agents by their ids. "merged" also drops a label that overlaps one of an
            earlier agent, where the agents number their objects independently; UserError where they do not.
        classes: the classes of the objects that are wanted.
    """

    dialect: Dialect = OPV2V
    collaboration: Collaboration | None = None
    ground_truth: LabelRule = "joint"
    classes: Classes = VEHICLES

    def __post_init__(self) -> None:
        """Check that labels are only merged where ids are not common to all agents."""
        if self.ground_truth == "merged" and not self.dialect.own_ids:
            rule = "ground truth 'merged' is a rule for DAIR-V2X-C and V2V4Real"
            raise UserError(f"{rule}, and this is {self.dialect.name}, whose ids are common to all agents; leave it out")

    @property
    def roadside_ego(self) -> bool:
        """Whether the ego is a roadside unit."""
        return self.collaboration in ("ic", "i2i")


AS_OPV2V = Rules()


def recognised(root: Path, split: Path, dialects: Iterable[Dialect]) -> Dialect:
    """Return the dialect of a data set, judged by the first metadata file of a split; OPV2V if it is none of `dialects`.

    Args:
        root: the folder that holds the splits.
        split: the folder of the split.
        dialects: the dialects to choose from.
    """
    first = _first_metadata(split)
    if first is None:
        return OPV2V
    return next((dialect for dialect in dialects if dialect.wrote(root, first)), OPV2V)


def _first_metadata(split: Path) -> Path | None:
    """Return the first agent's first metadata file; None if the split has none."""
    recordings = (path for path in sorted(split.iterdir()) if path.is_dir())
    agents = (path for recording in recordings for path in sorted(recording.iterdir()) if path.is_dir())
    for agent in agents:
        names = [path.name for path in agent.iterdir() if METADATA_NAME.fullmatch(path.name)]
        if names:
            return agent / min(names)
    return None


def _text(path: Path) -> bytes:
    """Return the content of a file; nothing if it cannot be read, because its frame names it."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
