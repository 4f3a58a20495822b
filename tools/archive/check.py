"""The check that an alliance is whole: its files are those of the manifest, and base and agent types belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from heal.alliance import AllianceError, BaseCard, load_agent, open_base, read_agent_card, read_base_card
from heal.config import ConfigError
from heal.storage.compressors import load_compressors
from heal.tools.archive.manifest import MANIFEST_NAME, read_manifest


@dataclass(frozen=True)
class PartCheck:
    """What the check of a part has found.

    Attributes:
        name: "manifest", "base", the name of an agent type, or "ae8" for the compressor of ratio 8.
        says: what is right: numbers and hashes.
        problem: what is wrong, as one sentence or several; empty if nothing is.
    """

    name: str
    says: str
    problem: str = ""


def check_alliance(alliance: Path) -> tuple[PartCheck, ...]:
    """Check an alliance folder: the files of its manifest, if it has one, then the base and every agent type."""
    return (_check_files(alliance), *check_parts(alliance))


def check_parts(alliance: Path) -> tuple[PartCheck, ...]:
    """Check the base, every agent type and every compressor of an alliance folder.

    Weights are read, compared with the content hash of their record, and put into the networks; every type has to be aligned to the
    base, and every compressor trained with it. Without a readable record of the base nothing else is checked.
    """
    try:
        card = read_base_card(alliance)
    except AllianceError as error:
        return (PartCheck("base", "", str(error)),)
    folders = {file.parent.name for pattern in ("agent.yaml", "agent.safetensors") for file in alliance.glob(f"[!.]*/{pattern}")}
    base = PartCheck("base", f"{card.hash[:12]}, as recorded", _problem_of_base(alliance))
    return (base, *(_check_type(alliance / name, card) for name in sorted(folders)), *_check_compressors(alliance, card.hash))


def require_whole(alliance: Path, checks: Sequence[PartCheck]) -> None:
    """Raise AllianceError with all problems that a check has found; `alliance` is the folder or archive to name."""
    problems = [check.problem for check in checks if check.problem]
    if problems:
        raise AllianceError(f"{alliance} is not whole: {'; '.join(problems)}")


def _check_files(alliance: Path) -> PartCheck:
    try:
        manifest = read_manifest(alliance)
    except ConfigError as error:
        return PartCheck("manifest", "", str(error))
    if manifest is None:
        return PartCheck("manifest", f"no {MANIFEST_NAME}, so only the hashes of the parts are checked")
    problems = manifest.problems(alliance)
    if problems:
        problems.append(f"copy the files again from their source, or delete {MANIFEST_NAME} if you have changed them yourself")
    return PartCheck("manifest", f"{len(manifest.files)} files, {manifest.size_bytes / 1e6:.1f} MB, as listed", "; ".join(problems))


def _problem_of_base(alliance: Path) -> str:
    try:
        open_base(alliance)
    except AllianceError as error:
        return str(error)
    return ""


def _check_compressors(alliance: Path, base_hash: str) -> list[PartCheck]:
    loaded, problems = load_compressors(alliance, base_hash)
    right = [PartCheck(f"ae{ratio}", f"{part.hash[:12]}, as recorded, trained with this base") for ratio, part in loaded.items()]
    return [*right, *(PartCheck(f"ae{ratio}", "", problem) for ratio, problem in problems.items())]


def _check_type(folder: Path, base: BaseCard) -> PartCheck:
    """Check an agent type. The base's record is enough: a damaged base is no reason to leave its types unchecked."""
    if not (folder / "agent.yaml").is_file():
        return PartCheck(folder.name, "", f"{folder}: agent.yaml is missing beside the weights")
    try:
        card = read_agent_card(folder, base.hash)
        load_agent(folder, card, base.config.grid)
    except AllianceError as error:
        return PartCheck(folder.name, "", str(error))
    belongs = f"marked as not aligned to this base, but to {card.base_hash[:12]}" if card.unaligned else "aligned to this base"
    return PartCheck(folder.name, f"{card.hash[:12]}, as recorded, {belongs}")
