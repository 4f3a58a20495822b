"""The manifest of an alliance: path, size and SHA-256 of every file, kept in `manifest.json` beside them."""

from __future__ import annotations

import json
import re
from pathlib import Path

from heal.config import ConfigError, build_config, config, to_plain
from heal.datasets.checksums import sha256_of
from heal.storage.compressors import FOLDER

MANIFEST_NAME = "manifest.json"
# The manifest of a thousand agent types has half of this size.
MOST_MANIFEST_BYTES = 1 << 20
FORMAT = 1
CHUNK_BYTES = 1 << 20

# The name of a file or of a part's folder: neither hidden nor "..", and without anything that a system takes for a separator.
_NAME = r"[^./\\:\x00-\x1f][^/\\:\x00-\x1f]*"
_PATH = re.compile(f"{_NAME}(/{_NAME})?")
_SHA256 = re.compile("[0-9a-f]{64}")


@config
class FileEntry:
    """A file of an alliance.

    Attributes:
        path: place in the alliance's folder: a name, or a part and a name, such as "m1/agent.yaml".
        size_bytes: size of the file.
        sha256: SHA-256 of its content, as 64 hexadecimal digits.
    """

    path: str
    size_bytes: int
    sha256: str

    def __post_init__(self) -> None:
        """Raise ConfigError for a path that leads out of the folder, a negative size, or a hash that is none."""
        if not _PATH.fullmatch(self.path):
            raise ConfigError(f"{self.path!r} is not a path of an alliance; expected a name or PART/NAME, such as m1/agent.yaml")
        if self.size_bytes < 0 or not _SHA256.fullmatch(self.sha256):
            raise ConfigError(f"{self.path}: expected a size of at least 0 and 64 hexadecimal digits of SHA-256")


@config
class Manifest:
    """The content of manifest.json.

    Attributes:
        format: number of this form of manifests and archives.
        files: every file of the alliance but the manifest itself, sorted by path.
    """

    format: int
    files: tuple[FileEntry, ...]

    def __post_init__(self) -> None:
        """Raise ConfigError for another format, and for a file that is listed twice."""
        if self.format != FORMAT:
            raise ConfigError(f"expected format {FORMAT}, got {self.format}; a newer version of heal may read it")
        if len({entry.path for entry in self.files}) != len(self.files):
            raise ConfigError("a file is listed twice")

    @staticmethod
    def of(alliance: Path) -> Manifest:
        """Return the manifest of an alliance folder: files on top, and those of base, agent types, compressors.

        Hidden files, which commands leave behind when they are killed, and folders that are no part are left out.

        Raises:
            ConfigError: a file is a link, or its name cannot be in an archive.
        """
        parts = [
            alliance,
            alliance / "base",
            *(record.parent for record in alliance.glob("[!.]*/agent.yaml")),
            *alliance.glob(FOLDER),
        ]
        files = [file for part in parts for file in part.iterdir() if not file.name.startswith(".") and not file.is_dir()]
        entries = [_entry_of(file, alliance) for file in files if file != alliance / MANIFEST_NAME]
        return Manifest(format=FORMAT, files=tuple(sorted(entries, key=lambda entry: entry.path)))

    @staticmethod
    def parse(content: bytes, source: str) -> Manifest:
        """Read the content of manifest.json; ConfigError names `source` and the mistake."""
        try:
            values = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{source}: not valid JSON: {error}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{source}: expected a mapping with format and files, got {type(values).__name__}")
        return build_config(Manifest, values, source)

    def content(self) -> bytes:
        """Return the content of manifest.json."""
        return (json.dumps(to_plain(self), indent=1) + "\n").encode()

    @property
    def size_bytes(self) -> int:
        """Size of all files together."""
        return sum(entry.size_bytes for entry in self.files)

    def problems(self, alliance: Path) -> list[str]:
        """Return a sentence for each listed file that is missing in an alliance folder, or is another file than listed."""
        return [problem for entry in self.files if (problem := _problem_of(entry, alliance))]


def read_manifest(alliance: Path) -> Manifest | None:
    """Read the manifest of an alliance folder; None if it has none; ConfigError if it cannot be used."""
    path = alliance / MANIFEST_NAME
    return Manifest.parse(path.read_bytes(), str(path)) if path.is_file() else None


def _entry_of(file: Path, alliance: Path) -> FileEntry:
    path = file.relative_to(alliance).as_posix()
    # A link would be packed as the file that it leads to, which may lie anywhere on this machine.
    if file.is_symlink() or not file.is_file():
        raise ConfigError(f"{file} is a link or a special file; an archive holds files only, so replace it by a copy")
    return FileEntry(path=path, size_bytes=file.stat().st_size, sha256=sha256_of(file))


def _problem_of(entry: FileEntry, alliance: Path) -> str:
    """Return what is wrong with a listed file; empty if nothing is."""
    file = alliance / entry.path
    if not file.is_file():
        return f"{entry.path} is missing"
    if file.stat().st_size != entry.size_bytes or sha256_of(file) != entry.sha256:
        return f"{entry.path} is not the file of the manifest: its size or its SHA-256 is another"
    return ""
