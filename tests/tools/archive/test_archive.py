"""An alliance as one file: packed and unpacked without a change, and refused when damaged or made to write elsewhere."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heal.alliance import AllianceError, TrainingRecord, load_alliance, save_agent, save_base
from heal.config import ConfigError
from heal.errors import UserError
from heal.tools.archive.archive import ArchiveError, extract, pack
from heal.tools.archive.check import check_alliance, require_whole
from heal.tools.archive.manifest import MANIFEST_NAME, Manifest
from tests.heal.networks import small_model
from tests.tools.command import run_command


def saved(path: Path, seed: int = 0) -> Path:
    """Write an alliance of a base and m1, with a file of evaluations and leftovers that are no part of it."""
    torch.manual_seed(seed)
    model = small_model()
    save_agent(path, "m1", model.agent("m1"), save_base(path, model.base, TrainingRecord()), TrainingRecord())
    (path / "evaluations.json").write_text("{}")
    (path / "m1" / ".agent.12.unfinished.yaml").write_text("half")
    (path / "pictures").mkdir()
    (path / "pictures" / "m1.png").write_bytes(b"a picture")
    return path


def packed(tmp_path: Path) -> Path:
    archive = tmp_path / "one.zip"
    pack(saved(tmp_path / "one"), archive)
    return archive


def rewritten(archive: Path, entries: dict[str | zipfile.ZipInfo, bytes], without: tuple[str, ...] = ()) -> Path:
    """Write a copy of an archive with further or other entries."""
    copy = archive.with_name("copy.zip")
    names = {entry if isinstance(entry, str) else entry.filename for entry in entries} | set(without)
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(copy, "w") as target:
        for info in source.infolist():
            if info.filename not in names:
                target.writestr(info, source.read(info))
        for entry, content in entries.items():
            target.writestr(entry, content)
    return copy


def with_manifest(archive: Path, change: dict[str, Any], entries: dict[str | zipfile.ZipInfo, bytes]) -> Path:
    """Write a copy of an archive whose manifest lists one file more, with the given entries."""
    with zipfile.ZipFile(archive) as source:
        values = json.loads(source.read(MANIFEST_NAME))
    values["files"].append(change)
    return rewritten(archive, {**entries, MANIFEST_NAME: json.dumps(values).encode()})


def listing(path: str, content: bytes) -> dict[str, Any]:
    return {"path": path, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def problems_of(archive: Path, folder: Path) -> str:
    """Extract an archive and return everything that is wrong with it."""
    extract(archive, folder)
    return "; ".join(check.problem for check in check_alliance(folder) if check.problem)


def files_under(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_alliance_comes_back_from_its_archive_unchanged(tmp_path: Path) -> None:
    one, archive, two = saved(tmp_path / "one"), tmp_path / "one.zip", tmp_path / "two"
    assert "5 files" in run_command("alliance", "pack", one, "--out", archive)
    verified = run_command("alliance", "verify", archive)
    assert [line.split()[0] for line in verified.splitlines()] == ["manifest", "base", "m1"] and "wrong" not in verified
    two.mkdir()  # an empty folder may be there
    run_command("alliance", "unpack", archive, "--out", two)
    before, after = files_under(one), files_under(two)
    expected = {"base/base.yaml", "base/base.safetensors", "m1/agent.yaml", "m1/agent.safetensors", "evaluations.json"}
    assert after.keys() == expected | {MANIFEST_NAME}
    assert all(after[path] == before[path] for path in expected)
    weights, unpacked = load_alliance(one).agent("m1").state_dict(), load_alliance(two).agent("m1").state_dict()
    assert all(torch.equal(unpacked[name], tensor) for name, tensor in weights.items())
    run_command("alliance", "pack", two, "--out", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()
    with pytest.raises(UserError, match="not an empty folder"):
        run_command("alliance", "unpack", archive, "--out", two)


def test_a_flipped_byte_in_a_folder_is_named_by_the_manifest_and_by_the_content_hash(tmp_path: Path) -> None:
    run_command("alliance", "unpack", packed(tmp_path), "--out", tmp_path / "two")
    weights = tmp_path / "two" / "base" / "base.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    manifest, base, m1 = check_alliance(tmp_path / "two")
    assert "base/base.safetensors is not the file of the manifest" in manifest.problem
    assert "content hash" in base.problem and m1.problem == ""
    with pytest.raises(AllianceError, match=r"two is not whole: base/base\.safetensors"):
        run_command("alliance", "verify", tmp_path / "two")
    (tmp_path / "two" / MANIFEST_NAME).unlink()
    with pytest.raises(AllianceError, match="content hash"):
        run_command("alliance", "pack", tmp_path / "two", "--out", tmp_path / "two.zip")
    assert not (tmp_path / "two.zip").exists()


def test_a_record_of_impossible_sizes_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    record = saved(tmp_path / "one") / "base" / "base.yaml"
    record.write_text(re.sub(r"in_channels: \d+", "in_channels: 2147483647", record.read_text()))
    with pytest.raises(AllianceError, match=r"one is not whole: .*base\.safetensors: its content hash is"):
        run_command("alliance", "verify", tmp_path / "one")


def test_no_flipped_byte_of_an_archive_changes_what_is_unpacked(tmp_path: Path) -> None:
    archive, rng = packed(tmp_path), np.random.default_rng(0)
    extract(archive, tmp_path / "whole")
    expected, content = files_under(tmp_path / "whole"), archive.read_bytes()
    directory = content.index(b"PK\x01\x02")
    # Every fourth place lies in the entries' directory at the end, the others anywhere.
    places = [int(rng.integers(directory if i % 4 == 0 else 0, len(content))) for i in range(80)]
    refused = 0
    for i, place in enumerate(places):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "damaged.zip").write_bytes(damaged)
        folder = tmp_path / f"try{i}"
        try:
            extract(tmp_path / "damaged.zip", folder)
            require_whole(folder, check_alliance(folder))
        except UserError:
            refused += 1
        else:
            assert files_under(folder) == expected, place
        shutil.rmtree(folder, ignore_errors=True)
    assert refused > 50


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    archive = packed(tmp_path)
    without = rewritten(archive, {}, ("m1/agent.safetensors",))
    assert "m1/agent.safetensors is missing" in problems_of(without, tmp_path / "two")
    with pytest.raises(AllianceError, match=r"copy\.zip is not whole: m1/agent\.safetensors is missing"):
        run_command("alliance", "unpack", without, "--out", tmp_path / "three")
    assert not (tmp_path / "three").exists() and not list(tmp_path.glob(".three*"))
    assert "base.yaml is missing" in problems_of(rewritten(archive, {}, ("base/base.yaml",)), tmp_path / "four")
    (tmp_path / "one" / "m1" / "agent.yaml").unlink()
    [problem] = [check.problem for check in check_alliance(tmp_path / "one") if check.problem]
    assert "agent.yaml is missing beside the weights" in problem


@pytest.mark.parametrize(
    "path", ["../evil", "m1/../../evil", "/tmp/evil", "..", "m1\\..\\evil", "C:evil", ".hidden", "a/b/c", "m1/"]
)
def test_a_path_that_leads_out_of_the_folder_is_refused_before_anything_is_written(tmp_path: Path, path: str) -> None:
    archive = packed(tmp_path)
    listed, unlisted = "not a path of an alliance|is a link, a folder", "is not in manifest|is a link, a folder"
    for make, text in (
        (lambda: with_manifest(archive, listing(path, b"evil"), {path: b"evil"}), listed),
        (lambda: rewritten(archive, {path: b"evil"}), unlisted),
    ):
        broken = make()
        before = sorted(tmp_path.parent.rglob("*"))
        with pytest.raises(UserError, match=text):
            extract(broken, tmp_path / "two")
        assert sorted(tmp_path.parent.rglob("*")) == before


def test_links_compressed_entries_and_false_sizes_are_refused(tmp_path: Path) -> None:
    archive = packed(tmp_path)
    link = zipfile.ZipInfo("m1/passwords")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    bomb = zipfile.ZipInfo("m1/zeros")
    bomb.compress_type = zipfile.ZIP_DEFLATED
    target, zeros = b"/etc/passwd", bytes(1_000_000)
    for broken, text in (
        (lambda: with_manifest(archive, listing("m1/passwords", target), {link: target}), "is a link"),
        (lambda: with_manifest(archive, listing("m1/zeros", zeros), {bomb: zeros}), "compressed"),
        (lambda: rewritten(archive, {"m1/agent.yaml": b"longer than listed" * 200}), r"agent\.yaml has 3600 bytes, but"),
        (lambda: rewritten(archive, {"m1/notes": b"more"}), "'m1/notes' is not in manifest"),
        (lambda: rewritten(archive, {MANIFEST_NAME: b" " * (1 << 20) + b"{}"}), "expected at most"),
        (lambda: rewritten(archive, {}, (MANIFEST_NAME,)), "has no manifest"),
    ):
        with pytest.raises(ArchiveError, match=text):
            extract(broken(), tmp_path / "two")
        assert not (tmp_path / "two").exists()
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(ArchiveError, match="no archive of an alliance"):
        run_command("alliance", "verify", tmp_path / "text.zip")


def test_a_link_in_a_folder_is_not_packed(tmp_path: Path) -> None:
    one = saved(tmp_path / "one")
    (tmp_path / "secret").write_text("a key")
    (one / "m1" / "notes").symlink_to(tmp_path / "secret")
    with pytest.raises(ConfigError, match="notes is a link"):
        pack(one, tmp_path / "one.zip")
    assert not (tmp_path / "one.zip").exists()


def test_a_foreign_type_is_named_in_a_folder_and_in_an_archive(tmp_path: Path) -> None:
    one, two = saved(tmp_path / "one"), saved(tmp_path / "two", seed=1)
    shutil.copytree(two / "m1", one / "stranger")
    for command in (("verify", one), ("pack", one, "--out", tmp_path / "one.zip")):
        with pytest.raises(AllianceError, match=r"one is not whole: .*stranger is aligned to the base"):
            run_command("alliance", *command)
    pack(one, tmp_path / "one.zip")  # as somebody else's tool might
    with pytest.raises(AllianceError, match=r"one\.zip is not whole: .*one\.zip/stranger: stranger is aligned to the base"):
        run_command("alliance", "verify", tmp_path / "one.zip")
    with pytest.raises(AllianceError, match="stranger is aligned to the base"):
        run_command("alliance", "unpack", tmp_path / "one.zip", "--out", tmp_path / "three")
    assert not (tmp_path / "three").exists()


@pytest.mark.parametrize(
    "content", [b"[", b"[1]", b'{"format": 2, "files": []}', b'{"format": 1, "files": [], "more": 1}', b"[" * 99_999]
)
def test_a_manifest_that_cannot_be_used_names_its_file(content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"^here:"):
        Manifest.parse(content, "here")
