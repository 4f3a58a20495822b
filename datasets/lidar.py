"""Read the LiDAR sweeps of a data set: PCD files, and files of bare float32 numbers (.bin, as in KITTI)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from heal.datasets.dataset import DatasetError
from heal.datasets.files import errors_naming, missing_cause
from heal.datasets.intensity import BYTE_TOP, COLOUR_FIELDS, common_top, intensity_fields, range_text, red_from_rgb, to_unit
from heal.datasets.pcd import decode_pcd
from heal.datasets.pcd_header import PcdHeader, parse_header
from heal.errors import UserError
from heal.types import Float32

CLOUD_ENDINGS = (".pcd", ".bin")
SAMPLED_SWEEPS = 8
BARE_FIELDS = ("x", "y", "z", "intensity")  # float32, in this order
RING = "ring"  # a fifth column of some data sets: the number of the laser line, also as float32
MOST_RINGS = 256
# What is said about intensities that are not taken as they are stored.
MISSING = "intensities that are no numbers read as 0"
OUTSIDE = "intensities beyond the scale read as its end"
ABSENT = "sweeps without intensity read as 0"

Item = TypeVar("Item")


@dataclass(frozen=True)
class _Sample:
    """The intensities of one sweep as stored.

    Attributes:
        fields: the fields that may hold the intensity, the one that is read first.
        kind: the type of that field; None if the type needs no scale, as a colour and single bytes, or if there is no field.
        values: (N,) the values; empty where `kind` is None.
    """

    fields: tuple[str, ...]
    kind: np.dtype[Any] | None
    values: npt.NDArray[Any]


@dataclass(frozen=True)
class _Findings:
    """What the sampled sweeps of a data set show about its intensities.

    Attributes:
        tops: whether a field holds integers -> the value that stands for 1, None if no common scale holds the values.
        notes: the scales and everything that is not read as it is stored, in lines for people.
        defects: the kinds of defects that the notes name.
    """

    tops: dict[bool, float | None]
    notes: tuple[str, ...]
    defects: frozenset[str]


class LidarReader:
    """Reads the sweeps of one data set, whose intensities share one scale for floats and one for integers.

    Attributes:
        sample: the files that show the scales.
        scale: the value that stands for 1 in every field but a colour; None to judge it by the sample.
        rings: whether files of bare numbers have a fifth column, the laser line of each point; None to judge it by each file.
    """

    def __init__(self, sample: Sequence[Path], scale: float | None = None, *, rings: bool | None = False) -> None:
        """Prepare to read; no file is opened yet. UserError if the scale is not a positive number."""
        if scale is not None and not 0.0 < scale < float("inf"):
            raise UserError(f"intensity_scale: expected a positive number, the value that stands for 1, got {scale}")
        self.sample, self.scale, self.rings = tuple(spread(sample, SAMPLED_SWEEPS)), scale, rings
        self._warned: set[str] = set()

    @property
    def notes(self) -> tuple[str, ...]:
        """The scales, and everything in the sample that is not read as it is stored."""
        return self._findings.notes

    @property
    def key(self) -> str:
        """The scales as text: a sweep depends on its file and on them."""
        return f"intensity {self.scale or sorted(self._findings.tops.items())}"

    def read(self, path: Path) -> Float32:
        """Read a sweep, without the points that the sensor marks as missing: those whose x, y or z is not finite.

        The intensity is that of the field `intensity`, or of a field of a similar name; without such a field the red byte of `rgb`,
        as in OPV2V; without a colour 0.

        Returns:
            (N, 4) float32: x, y, z in metres, intensity in [0, 1].

        Raises:
            DatasetError: the file is missing or damaged, or its intensities are not on the data set's scale.
        """
        data, header = _load(path, self.rings)
        with errors_naming(path):
            names = intensity_fields(header.fields)[:1]
            columns = decode_pcd(data, header, ("x", "y", "z", *names))
            points = np.zeros((header.points, 4), np.float32)
            with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, so its point is left out
                points[:, 0], points[:, 1], points[:, 2] = columns[:3]
            if names:
                points[:, 3] = self._intensity(path, names[0], header.types[header.column(names[0])], columns[3])
            else:
                self._warn(path, ABSENT)
        finite = np.isfinite(points[:, :3])
        return points if finite.all() else points[finite.all(axis=1)]

    @cached_property
    def _findings(self) -> _Findings:
        return _examine(self.sample, self.scale, self.rings)

    def _intensity(self, path: Path, field: str, kind: np.dtype[Any], raw: npt.NDArray[Any]) -> Float32:
        """Return the intensities (N,) of a sweep in [0, 1]; warn of the first ones that are not read as they are stored."""
        if field in COLOUR_FIELDS:
            if raw.dtype == np.float64 and np.isnan(raw).any():
                self._warn(path, MISSING)
            return red_from_rgb(raw, kind)
        unit, defects = to_unit(raw, self._top(kind, raw))
        for what, count in ((MISSING, defects.missing), (OUTSIDE, defects.outside)):
            if count:
                self._warn(path, what)
        return unit

    def _top(self, kind: np.dtype[Any], raw: npt.NDArray[Any]) -> float:
        """Return the value that stands for 1 in a field of a type; ValueError if it is not known."""
        if self.scale is not None or kind == np.uint8:
            return self.scale or BYTE_TOP
        integers = kind.kind != "f"
        tops = self._findings.tops
        # A kind of field that no sampled sweep has can only be judged by itself.
        top = tops[integers] if integers in tops else common_top(raw[np.isfinite(raw)], integers)
        if top is None:
            raise ValueError(f"the scale of the intensities cannot be known; {range_text(raw)}")
        return top

    def _warn(self, path: Path, what: str) -> None:
        """Warn once of a defect that the notes do not name."""
        if what not in self._findings.defects and what not in self._warned:
            self._warned.add(what)
            warnings.warn(f"{what}; the first of them, others are not named: {path}", stacklevel=4)


def read_lidar(path: Path) -> Float32:
    """Read a sweep whose scale is judged by itself alone; the sweeps of a data set are read with one `LidarReader`."""
    return LidarReader([path]).read(path)


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """Return at most `count` of the items, evenly spread."""
    count = min(count, len(items))
    return [items[number * len(items) // count] for number in range(count)]


def sample_clouds(folders: Sequence[Path]) -> list[Path]:
    """Return clouds that are spread over some folders, as many as `LidarReader` examines; a missing folder counts as empty."""
    clouds: list[Path] = []
    chosen = spread(folders, SAMPLED_SWEEPS)
    for folder in chosen:
        if folder.is_dir():
            found = sorted(path for path in folder.iterdir() if path.suffix.lower() in CLOUD_ENDINGS)
            clouds += spread(found, -(-SAMPLED_SWEEPS // len(chosen)))
    return clouds


def _load(path: Path, rings: bool | None) -> tuple[bytes, PcdHeader]:
    """Read a file of points and its header; DatasetError if it is missing or its header is damaged."""
    with errors_naming(path):
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise DatasetError(path, missing_cause(path)) from error
        return data, _bare_header(data, rings) if _is_bare(path, data) else parse_header(data)


def _is_bare(path: Path, data: bytes) -> bool:
    """Return whether a file holds bare numbers: by its name, unless its content is a PCD file's."""
    beginning = data[:1024].upper()
    return path.suffix.lower() == ".bin" and b"FIELDS" not in beginning and b"COLUMNS" not in beginning


def _bare_header(data: bytes, rings: bool | None) -> PcdHeader:
    """Return the header that a file of bare numbers would have; ValueError if it does not hold a whole number of points."""
    with_rings = _has_rings(data) if rings is None else rings
    fields = (*BARE_FIELDS, RING) if with_rings else BARE_FIELDS
    width, size = len(fields), 4 * len(fields)
    if not data or len(data) % size:
        raise ValueError(f"expected points of {size} bytes each ({', '.join(fields)} as float32), got {len(data)} bytes")
    return PcdHeader(fields, (np.dtype("<f4"),) * width, (1,) * width, len(data) // size, "binary", 0)


def _has_rings(data: bytes) -> bool:
    """Whether every fifth number of a file of float32 is the number of a laser line, as no coordinates and intensities would be."""
    width = len(BARE_FIELDS) + 1
    if len(data) % (4 * width):
        return False
    last = np.frombuffer(data, "<f4")[width - 1 :: width]
    return bool(((last >= 0) & (last < MOST_RINGS) & (last == np.trunc(last))).all())


def _examine(paths: Sequence[Path], scale: float | None, rings: bool | None) -> _Findings:
    """Examine the intensities of some sweeps; sweeps that cannot be read are left out, because reading them will name them."""
    samples = [sample for sample in (_sample(path, rings) for path in paths) if sample is not None]
    tops: dict[bool, float | None] = {}
    counts = {MISSING: 0, OUTSIDE: 0}
    for integers in (False, True):
        values = _pooled(samples, integers)
        finite = values[np.isfinite(values)]
        if len(finite):
            top = tops[integers] = scale or common_top(finite, integers)
            counts[OUTSIDE] += int(((values < 0) | (values > (top or np.inf))).sum())
        counts[MISSING] += int(np.isnan(values).sum())
    counts[ABSENT] = sum(not sample.fields for sample in samples)
    defects = {what: count for what, count in counts.items() if count}
    return _Findings(tops, tuple(_notes(samples, tops, scale, defects)), frozenset(defects))


def _sample(path: Path, rings: bool | None) -> _Sample | None:
    """Read the intensities of a sweep as they are stored; None if the sweep is missing or damaged."""
    try:
        data, header = _load(path, rings)
        fields = tuple(intensity_fields(header.fields))
        kind = header.types[header.column(fields[0])] if fields else None
        if kind is None or kind == np.uint8 or fields[0] in COLOUR_FIELDS:
            return _Sample(fields, None, np.empty(0))
        return _Sample(fields, kind, decode_pcd(data, header, fields[:1])[0])
    except ValueError:  # DatasetError is one
        return None


def _pooled(samples: Sequence[_Sample], integers: bool) -> npt.NDArray[Any]:
    """Join the values of all sampled fields of integers, or of floats."""
    parts = [sample.values for sample in samples if sample.kind is not None and (sample.kind.kind != "f") == integers]
    return np.concatenate(parts) if parts else np.empty(0)


def _notes(samples: Sequence[_Sample], tops: dict[bool, float | None], scale: float | None, defects: dict[str, int]) -> list[str]:
    """Return what a summary says about the intensities of a data set."""
    notes: list[str] = []
    for integers, top in tops.items():
        kind = "integers" if integers else "floats"
        taken = "are on no common scale" if top is None else f"are read on the scale 0 to {top:g}"
        source = f"judged by {len(samples)} of the sweeps" if scale is None else "as asked for or documented"
        notes.append(f"intensities stored as {kind} {taken}, {source}")
    choices = sorted({sample.fields for sample in samples if len(sample.fields) > 1})
    notes += [f"the intensity is read from the field {fields[0]}, not from {', '.join(fields[1:])}" for fields in choices]
    return notes + [f"{what}: {count} in {len(samples)} of the sweeps" for what, count in defects.items()]
