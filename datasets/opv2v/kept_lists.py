"""What a cache keeps of a split in OPV2V's layout, so that it opens at once: its scenarios, and what is found in its labels.

It also keeps the cameras of each frame, by which the files of a frame are found without reading its metadata.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heal.datasets.cache.entry_file import Entry, Stamp, stamps_of
from heal.datasets.cache.kept import EntryCodec, Value, require_kinds
from heal.datasets.dataset import Skipped
from heal.datasets.files import METADATA_ENDINGS
from heal.datasets.opv2v.index import Scenario
from heal.datasets.opv2v.label_check import LabelCheck

Listing = tuple[list[Scenario], Skipped]
LONGEST_NAME = 200


@dataclass(frozen=True)
class KeptLists:
    """The lists of one split, which change when a file is added or removed, or when a metadata file is written anew.

    Attributes:
        cache: the folder of the cache; None to make the lists every time.
        split: the split's folder.
        dialect: the name of the data set, which decides how its folders are read.
        stamps: of the split, from `split_stamp`.
    """

    cache: Path | None
    split: Path
    dialect: str
    stamps: tuple[Stamp, ...] = ()

    @staticmethod
    def of(cache: Path | None, split: Path, dialect: str) -> KeptLists:
        """Look at the present state of a split."""
        return KeptLists(cache and cache.absolute(), split, dialect, (split_stamp(split),) if cache else ())

    def listing(self, make: Callable[[], Listing]) -> Listing:
        """Return the scenarios of the split and what is skipped."""
        return self._kept(_LISTING, "", make)

    def check(self, selection: object, make: Callable[[], LabelCheck]) -> LabelCheck:
        """Return the findings in the labels of the agents that a selection names."""
        return self._kept(_CHECK, repr(selection), make)

    def camera_names(self, metadata: Path, read: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
        """Return the names of the cameras that a frame's metadata file lists."""
        if self.cache is None:
            return read()
        try:
            stamps = stamps_of([metadata])
        except OSError:
            return read()
        return _CAMERA_NAMES.kept(self.cache, f"{self.dialect}\n{metadata.absolute()}", stamps, read)

    def _kept(self, codec: EntryCodec[Value], name: str, make: Callable[[], Value]) -> Value:
        # The findings have paths that begin as the split's is given.
        key = "\n".join([self.dialect, name, str(self.split), str(self.split.absolute())])
        return make() if self.cache is None else codec.kept(self.cache, key, self.stamps, make)


def split_stamp(split: Path) -> Stamp:
    """Return the number of files in the agents' folders of a split, and a digest of their names and of the metadata's stamps."""
    digest, count = hashlib.blake2b(digest_size=7), 0
    for folder in _folders(_folders([split])):
        files = list(os.scandir(folder))
        stats = [file.stat() for file in files if file.name.endswith(METADATA_ENDINGS)]
        digest.update("\0".join([folder, *(file.name for file in files)]).encode("utf-8", "surrogateescape"))
        digest.update(repr([(stat.st_size, stat.st_mtime_ns) for stat in stats]).encode())
        count += len(files)
    return count, int.from_bytes(digest.digest(), "little")


def _folders(parents: Iterable[str | Path]) -> list[str]:
    """Return the paths of the folders in some folders."""
    return [child.path for parent in parents for child in sorted(os.scandir(parent), key=lambda each: each.name) if child.is_dir()]


def _pack_listing(listing: Listing) -> Entry:
    scenarios, skipped = listing
    described = [
        {
            "name": scenario.name,
            "has_maps": scenario.has_maps,
            "agents": {agent_id: " ".join(scenario.stamps[agent_id].values()) for agent_id in scenario.agent_ids},
        }
        for scenario in scenarios
    ]
    return Entry({"scenarios": described, "skipped": skipped})


def _unpack_listing(entry: Entry) -> Listing:
    require_kinds(entry.values, scenarios=list, skipped=list)
    return [_unpack_scenario(values) for values in entry.values["scenarios"]], _text_pairs(entry.values["skipped"])


def _unpack_scenario(values: Any) -> Scenario:
    require_kinds(values, name=str, has_maps=bool, agents=dict)
    require_kinds(values["agents"], **dict.fromkeys(values["agents"], str))
    stamps = {agent_id: {int(stamp): stamp for stamp in text.split()} for agent_id, text in values["agents"].items()}
    if not stamps or not all(stamps.values()):
        raise ValueError(f"{values['name']}: expected agents with frames")
    if not all(_is_name(name) for name in (values["name"], *stamps, *(stamp for own in stamps.values() for stamp in own.values()))):
        raise ValueError(f"{values['name']}: expected names of folders and files")
    return Scenario(values["name"], tuple(stamps), stamps, has_maps=values["has_maps"])


def _is_name(name: str) -> bool:
    """Whether a text may be the name of a folder or file here, which leaves room for an ending."""
    return 0 < len(name) <= LONGEST_NAME and not {"/", "\0"} & {*name} and name not in {".", ".."}


def _pack_check(check: LabelCheck) -> Entry:
    return Entry({"unlabelled": sorted(map(str, check.unlabelled)), "left_out": dict(check.left_out)})


def _unpack_check(entry: Entry) -> LabelCheck:
    require_kinds(entry.values, unlabelled=list, left_out=dict)
    counts = {str(name): int(count) for name, count in entry.values["left_out"].items()}
    return LabelCheck({Path(path) for path in entry.values["unlabelled"]}, Counter(counts))


def _pack_names(names: tuple[str, ...]) -> Entry:
    return Entry({"names": names})


def _unpack_names(entry: Entry) -> tuple[str, ...]:
    require_kinds(entry.values, names=list)
    names = tuple(str(name) for name in entry.values["names"])
    if not all(name.isidentifier() for name in names):
        raise ValueError(f"expected the names of cameras, got {names}")
    return names


def _text_pairs(values: list[Any]) -> Skipped:
    return [(str(part), str(cause)) for part, cause in values]


_LISTING = EntryCodec("listing", _pack_listing, _unpack_listing)
_CHECK = EntryCodec("labels", _pack_check, _unpack_check)
_CAMERA_NAMES = EntryCodec("cameras", _pack_names, _unpack_names)
