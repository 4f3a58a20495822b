"""The archives of OPV2V: OPV2V itself, OPV2V-H with thinned clouds and depth images, and the visibility maps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from heal.datasets.doctor.facts import Installed
from heal.datasets.doctor.finding import Finding
from heal.datasets.doctor.places import Places, children_linked, folders_below, packed_archives
from heal.datasets.opv2v.index import METADATA_NAME, VISIBILITY_SUFFIX
from heal.datasets.split_names import SYNONYMS

_SPLITS = {name for names in SYNONYMS for name in names}
_THINNED = re.compile(r"\d+(_(16|32)\.pcd|_depth\d+\.png)")
_SENSOR_FILE = re.compile(r"(\d+)(\.pcd|\.bin|_camera\d+\.(png|jpe?g))")
HETERO = "OPV2V_Hetero"


def check_places(root: Path, installed: Installed, has_maps: bool) -> Places:
    """Look for the archives of a data set whose splits lie in `root`."""
    findings = list(packed_archives([root, root.parent, root.with_name(HETERO)]))
    links: dict[Path, Path] = {}
    if not (installed.thinned or installed.depth):
        found = _find(root, _THINNED)
        findings.append(_hetero_finding(root, found))
        links |= {Path(HETERO): found} if found else {}
    if installed.cameras and not has_maps:
        found = _find(root, re.compile(rf"\d+{VISIBILITY_SUFFIX}"))
        findings.append(_maps_finding(root, found))
        links |= {Path("OPV2V/additional"): found} if found else {}
    if links:
        links = {
            **({Path("OPV2V"): root} if Path("OPV2V/additional") not in links else children_linked(root, Path("OPV2V"))),
            **links,
        }
    return Places((*findings, *_without_metadata(root)), links)


def _hetero_finding(root: Path, found: Path | None) -> Finding:
    wanted = root.with_name(HETERO)
    if found:
        return Finding("archive-misplaced", found, f"OPV2V-H in {wanted}", f"OPV2V-H in {found}")
    remedy = f"join the parts of OPV2V-H with cat, and unzip them to {wanted}; V2XSet has none, and needs none for its own types"
    return Finding("archive-missing", wanted, "clouds of 16 and 32 lines and depth images, for m2, m3 and m4", "nothing", remedy)


def _maps_finding(root: Path, found: Path | None) -> Finding:
    wanted = root / "additional"
    if found:
        return Finding("archive-misplaced", found, f"visibility maps in {wanted}", f"visibility maps in {found}")
    remedy = f"unzip additional-001.zip to {wanted}; without it, camera types learn the objects within 45 m"
    return Finding("archive-missing", wanted, f"visibility maps (*{VISIBILITY_SUFFIX})", "nothing", remedy)


def _find(root: Path, name: re.Pattern[str]) -> Path | None:
    """Return a folder beside or in `root` that holds splits with files of some name."""
    for folder in (*folders_below(root.parent, 2), *folders_below(root, 1)):
        if folder != root.absolute() and folder.name not in _SPLITS and _holds(folder, name):
            return folder
    return None


def _holds(folder: Path, name: re.Pattern[str]) -> bool:
    """Whether a folder holds <split>/<scenario>/<agent>/ with files of some name, by the first agents of each split."""
    for split in (path for path in folder.iterdir() if path.name in _SPLITS and path.is_dir()):
        agents = (path for path in split.glob("*/*") if path.is_dir())
        if any(name.fullmatch(file.name) for _, agent in zip(range(3), agents, strict=False) for file in agent.iterdir()):
            return True
    return False


def _without_metadata(root: Path) -> Iterator[Finding]:
    """Yield a finding for the frames of an agent that have sensor data and no metadata."""
    for split in sorted(path for path in root.iterdir() if path.name in _SPLITS and path.is_dir()):
        for agent in sorted(path for path in split.glob("*/*") if path.is_dir()):
            names = [path.name for path in agent.iterdir()]
            described = {match[1] for name in names if (match := METADATA_NAME.fullmatch(name))}
            sensed = {match[1] for name in names if (match := _SENSOR_FILE.fullmatch(name))}
            for stamp in sorted(sensed - described) if described else ():
                yield Finding("no-metadata", agent / f"{stamp}.yaml", "metadata", "sensor data alone", split=split.name)
