"""Findings: what the doctor says about a file, a folder or some scenes of a data set, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

# An error leaves scenes out; a warning is something to look at, and its scenes stay; a note is neither.
Severity = Literal["error", "warning", "note"]
AGAIN = "copy the file again, or unpack the archive that holds it again; otherwise its scenes are left out"


@dataclass(frozen=True)
class Kind:
    """A kind of findings.

    Attributes:
        severity: whether its scenes are left out.
        meaning: the defect in a few words.
        remedy: the steps to take.
    """

    severity: Severity
    meaning: str
    remedy: str


KINDS: dict[str, Kind] = {
    "unknown-layout": Kind(
        "error", "the folder is no known data set", "name the folder that docs/data.md describes for the data set"
    ),
    "split-unusable": Kind("error", "a split cannot be opened", "repair the file that is named; the other splits can be used"),
    "split-missing": Kind("note", "a split is not there", "unpack its archive there, if it is needed"),
    "archive-missing": Kind("note", "an archive is not unpacked", "unpack the archive there, if agent types need it"),
    "archive-packed": Kind(
        "warning", "an archive or a part of one lies unpacked in the data", "join the parts with cat, and unpack"
    ),
    "archive-misplaced": Kind(
        "warning", "an archive is unpacked in another place", "move the folder, or use the links of heal doctor --fix FOLDER"
    ),
    "labels-half": Kind(
        "warning",
        "complemented labels are installed in part",
        "unpack both folders of the complemented labels, originals as _backup",
    ),
    "labels-found": Kind("note", "which labels are there", "nothing to do; results name the labels too"),
    "left-out": Kind("warning", "a reader leaves something out", "look at the reason; nothing to do if it is meant so"),
    "missing-file": Kind("error", "a file is missing", AGAIN),
    "damaged-file": Kind("error", "a file is truncated or cannot be read", AGAIN),
    "no-labels": Kind("error", "metadata without labels", "get the metadata again; otherwise the scene is left out"),
    "no-metadata": Kind(
        "warning", "sensor data of a frame without metadata", "get the metadata again; the frame is not read without"
    ),
    "empty-cloud": Kind("error", "a cloud without a point", AGAIN),
    "sparse-cloud": Kind("warning", "a cloud with far fewer points than the agent's others", "look at the cloud"),
    "cloud-units": Kind("error", "a cloud that is not in metres", "write the cloud in metres; otherwise its scenes are left out"),
    "no-intensity": Kind("warning", "all intensities of an agent are 0", "check the field of the intensity in the clouds"),
    "image-size": Kind("error", "an image of another size than the camera's others", AGAIN),
    "image-bits": Kind("warning", "an image with other channels or bits than the camera's others", "convert it as the others are"),
    "image-centre": Kind(
        "warning", "a camera matrix whose centre is far from the image's", "scale the matrix as the images were scaled, or check it"
    ),
    "no-partner": Kind(
        "warning", "frames that another agent of the scenario lacks", "get the frames again, if they are not meant to lack"
    ),
    "label-range": Kind("warning", "a label far outside of every sensor's range", "check the place of the object and its units"),
    "label-size": Kind(
        "warning", "a label without a size, or with an impossible one", "correct the size; without one it does not count"
    ),
    "label-turned": Kind(
        "warning", "a label across its movement, lying, or wider than long", "correct its angle, or its length and width"
    ),
    "label-conflict": Kind("warning", "two agents place an object apart", "check the ids, and the poses of both agents"),
    "clock-jump": Kind(
        "warning",
        "a clock that jumps or stands still",
        "get the missing frames again if the split should have them, or check the timestamps",
    ),
    "clock-offset": Kind("warning", "two agents of a scene at different times", "check the pairing of frames and the timestamps"),
    "pose-jump": Kind("error", "a pose away from those before and after", "correct the pose; otherwise the scene is left out"),
    "pose-step": Kind(
        "warning", "a pose that jumps and stays there", "check whether two recordings were joined, or the pose's source"
    ),
    "calibration": Kind(
        "error", "boxes that are empty in a cloud", "check the calibration and the pose; otherwise the scenes are left out"
    ),
    "sides-exchanged": Kind(
        "error", "the clouds of two agents are exchanged", "exchange their clouds or their poses; otherwise the scenes are left out"
    ),
    "camera-beside": Kind(
        "error",
        "boxes that project beside the images",
        "check the camera's pose and matrix; otherwise runs with cameras leave it out",
    ),
}


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        kind: a name in `KINDS`.
        path: the file or folder.
        expected: the content that was expected.
        found: the actual content.
        remedy: the steps to take; empty for those of the kind.
        split: the split; empty for the data set as a whole.
        scenes: ids of the scenes that it is about.
        files: the files whose users leave the scenes out, if the finding is an error; empty for all who read the scenes.
    """

    kind: str
    path: Path
    expected: str
    found: str
    remedy: str = ""
    split: str = ""
    scenes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        """Take the kind's remedy where none is given; KeyError for an unknown kind."""
        kind = KINDS[self.kind]
        if not self.remedy:
            object.__setattr__(self, "remedy", kind.remedy)

    @property
    def severity(self) -> Severity:
        """Whether its scenes are left out."""
        return KINDS[self.kind].severity

    def record(self) -> dict[str, Any]:
        """Return the finding in plain values."""
        values = {"kind": self.kind, "severity": self.severity, "path": str(self.path), "split": self.split}
        said = {"expected": self.expected, "found": self.found, "remedy": self.remedy}
        return {**values, **said, "scenes": list(self.scenes), "files": list(map(str, self.files))}


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings: errors, warnings, notes; within these by kind, split and path."""
    order = ("error", "warning", "note")
    return sorted(findings, key=lambda each: (order.index(each.severity), each.kind, each.split, str(each.path), each.found))
