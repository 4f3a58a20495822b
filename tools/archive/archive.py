"""Packs an alliance into a ZIP file with a manifest, and extracts such a file, of which nothing is trusted.

The files are stored without compression, because weights hardly shrink. So an archive cannot unpack to more than its own size.
"""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from heal.atomic_write import replacing
from heal.errors import UserError
from heal.tools.archive.manifest import CHUNK_BYTES, MANIFEST_NAME, MOST_MANIFEST_BYTES, FileEntry, Manifest

# All files have one date, so that equal alliances give equal archives.
_DATE = (1980, 1, 1, 0, 0, 0)
_ENCRYPTED = 0x1
# What `zipfile` raises for a file that is damaged or was made to break readers.
_DAMAGE = (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OverflowError)


class ArchiveError(UserError):
    """A file that is no archive of an alliance, or one that would write anything but its own files."""


def pack(alliance: Path, archive: Path) -> Manifest:
    """Write the files of an alliance folder and their manifest into a ZIP file, whole; return the manifest.

    Raises:
        ConfigError: a file of the folder is a link, or its name cannot be in an archive.
    """
    manifest = Manifest.of(alliance)
    with replacing(archive) as temporary, zipfile.ZipFile(temporary, "w") as target:
        content = manifest.content()
        with target.open(_info(MANIFEST_NAME, len(content)), "w") as stream:
            stream.write(content)
        for entry in manifest.files:
            with target.open(_info(entry.path, entry.size_bytes), "w") as stream, (alliance / entry.path).open("rb") as source:
                while chunk := source.read(CHUNK_BYTES):
                    stream.write(chunk)
    return manifest


def extract(archive: Path, folder: Path) -> None:
    """Write the files of an archive and its manifest into a new folder.

    The content of the files is not compared with the manifest. A file whose bytes are damaged is written up to the damage, and a
    file that the archive lacks is not written, so that `check_alliance` names each of them.

    Raises:
        ArchiveError: the file is no archive, or an entry of it is a link, leads out of the folder, is not in the manifest, or has
            another size than the manifest says; nothing is written then.
    """
    with _opened(archive) as source:
        infos = _plain_entries(source, archive)
        manifest = _manifest_of(source, infos, archive)
        listed = {entry.path: entry for entry in manifest.files}
        for path, info in infos.items():
            if path != MANIFEST_NAME:
                _require_listed(info, listed.get(path), archive)
        folder.mkdir(parents=True)
        (folder / MANIFEST_NAME).write_bytes(manifest.content())
        for path in infos.keys() - {MANIFEST_NAME}:
            (folder / path).parent.mkdir(exist_ok=True)
            with (folder / path).open("xb") as target:
                _copy_up_to_damage(source, infos[path], target)


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    """Open a ZIP file for reading; ArchiveError where it is none."""
    try:
        source = zipfile.ZipFile(archive)
    except _DAMAGE as error:
        raise ArchiveError(
            f"{archive} is no archive of an alliance: {error}; `heal alliance pack` makes one, or copy it again from its source"
        ) from error
    with source:
        yield source


def _plain_entries(source: zipfile.ZipFile, archive: Path) -> dict[str, zipfile.ZipInfo]:
    """Return all entries by path; ArchiveError for one that is not a plain stored file, and for more bytes than the archive has."""
    infos = {info.filename: info for info in source.infolist()}
    for path, info in infos.items():
        kind = stat.S_IFMT(info.external_attr >> 16)
        plain = kind in (0, stat.S_IFREG) and info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & _ENCRYPTED
        if not plain or info.is_dir():
            raise ArchiveError(f"{archive}: {path!r} is a link, a folder, compressed or encrypted; pack with `heal alliance pack`")
    if len(infos) != len(source.infolist()):
        raise ArchiveError(f"{archive}: two entries have the same path; pack with `heal alliance pack`")
    if sum(info.file_size for info in infos.values()) > archive.stat().st_size:
        raise ArchiveError(f"{archive}: its entries claim more bytes than the archive has; copy it again from its source")
    return infos


def _manifest_of(source: zipfile.ZipFile, infos: dict[str, zipfile.ZipInfo], archive: Path) -> Manifest:
    info = infos.get(MANIFEST_NAME)
    if info is None:
        raise ArchiveError(f"{archive} has no {MANIFEST_NAME}, so it is no archive of an alliance; `heal alliance pack` makes one")
    if info.file_size > MOST_MANIFEST_BYTES:
        raise ArchiveError(f"{archive}: {MANIFEST_NAME} has {info.file_size} bytes, expected at most {MOST_MANIFEST_BYTES}")
    try:
        content = source.read(info)
    except _DAMAGE as error:
        raise ArchiveError(f"{archive}: {MANIFEST_NAME} is damaged: {error}; copy the archive again from its source") from error
    return Manifest.parse(content, f"{archive}: {MANIFEST_NAME}")


def _require_listed(info: zipfile.ZipInfo, entry: FileEntry | None, archive: Path) -> None:
    """Check an entry against the manifest, whose paths stay inside the folder."""
    if entry is None:
        raise ArchiveError(f"{archive}: {info.filename!r} is not in {MANIFEST_NAME}; pack with `heal alliance pack`")
    if info.file_size != entry.size_bytes:
        raise ArchiveError(
            f"{archive}: {entry.path} has {info.file_size} bytes, but {MANIFEST_NAME} says {entry.size_bytes}; "
            "copy the archive again from its source"
        )


def _copy_up_to_damage(source: zipfile.ZipFile, info: zipfile.ZipInfo, target: BinaryIO) -> None:
    try:
        with source.open(info) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                target.write(chunk)
    except _DAMAGE:
        return


def _info(path: str, size_bytes: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(path, _DATE)
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    info.file_size = size_bytes  # so that `zipfile` knows of files above 4 GB in time
    return info
