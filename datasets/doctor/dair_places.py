"""The archives of DAIR-V2X-C: images and clouds of both sides, and the complemented labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from heal.datasets.dair.index import COOPERATIVE, INNER_FOLDER, ROADSIDE_SIDE, VEHICLE_SIDE, data_folder
from heal.datasets.doctor.finding import Finding
from heal.datasets.doctor.places import Places, children_linked, folders_below, packed_archives

JOINT, OWN = Path(COOPERATIVE, "label_world"), Path(VEHICLE_SIDE, "label", "lidar")
OTHER_KIND = "other kind"  # in `DatasetSummary.labels`


def check_places(root: Path, labels: str) -> Places:
    """Look for the archives of a data set in `root`, whose reader has found some kind of labels."""
    folder = data_folder(root) or root
    findings = [*packed_archives([root, folder, *(folder / side for side in (VEHICLE_SIDE, ROADSIDE_SIDE))]), *_absent(folder)]
    complemented = _complemented(root, folder) if not labels.startswith("complemented") or OTHER_KIND in labels else None
    if complemented:
        findings.append(Finding("archive-misplaced", complemented, f"complemented labels in {folder}", f"them in {complemented}"))
    if OTHER_KIND in labels:
        findings.append(Finding("labels-half", folder, f"complemented labels in {JOINT} and in {OWN}", labels))
    findings.append(Finding("labels-found", folder, "original or complemented labels", labels))
    return Places(tuple(findings), _links(root, folder, complemented) if complemented else {})


def _absent(folder: Path) -> Iterator[Finding]:
    for side in (VEHICLE_SIDE, ROADSIDE_SIDE):
        for name in ("image", "velodyne"):
            path = folder / side / name
            if not path.is_dir() or not any(path.iterdir()):
                yield Finding(
                    "archive-missing", path, f"the files of {side}/{name}", "nothing", f"unpack the archive of {side}-{name}"
                )


def _complemented(root: Path, folder: Path) -> Path | None:
    """Return a folder near the data that holds complemented labels: both label folders, and not the data itself."""
    for place in (*folders_below(root, 3), *folders_below(folder.parent, 2)):
        if (
            place != folder.absolute()
            and (place / JOINT).is_dir()
            and (place / OWN).is_dir()
            and not (place / VEHICLE_SIDE / "velodyne").is_dir()
        ):
            return place
    return None


def _links(root: Path, folder: Path, complemented: Path) -> dict[Path, Path]:
    """Return links to all of the data, with the complemented labels in place of the original ones, which become _backup."""
    place = Path(INNER_FOLDER)
    links = {
        Path(path.name): path for path in (*root.glob("*.json"), *complemented.glob("*.json"), *complemented.parent.glob("*.json"))
    }
    links |= children_linked(folder, place)
    for relative in (JOINT, OWN):
        for parent in reversed(relative.parents[:-1]):
            links.pop(place / parent, None)
            links |= children_linked(folder / parent, place / parent)
    for relative in (JOINT, OWN):
        backup = relative.with_name(f"{relative.name}_backup")
        original = folder / backup if (folder / backup).is_dir() else folder / relative
        links |= {place / relative: complemented / relative, place / backup: original}
    return links
