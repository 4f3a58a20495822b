"""The folder of a training: for one process at a time, with one set of settings; a restart deletes only what the training wrote."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from heal.atomic_write import replacing
from heal.config import ConfigError, load_config, load_yaml, save_config, to_plain
from heal.errors import UserError
from heal.tools.training.checkpoint import BEST_NAME, CHECKPOINT_NAME
from heal.tools.training.step_log import BOARD_NAME, LOG_NAME
from heal.training.config import CHANGEABLE, TrainingConfig

CONFIG_NAME, PICTURE_NAME, LOCK_NAME = "config.yaml", "predictions.png", ".lock"
# Files that a restart deletes. The settings and the alliance are replaced by those of the new training.
_OWN_FILES = (CHECKPOINT_NAME, BEST_NAME, LOG_NAME, PICTURE_NAME, f"{BOARD_NAME}/events.out.tfevents.*")
# Files that a killed process had not yet moved into place.
_LEFT_OVER = (".*.unfinished.*",)
_MOST_NAMED = 4

_held: set[int] = set()


@contextmanager
def run_folders(runs: Sequence[tuple[Path, TrainingConfig]], restart: bool, console: Console) -> Iterator[None]:
    """Make the folders of trainings, write the settings into them, and keep other processes out of them.

    Everything is checked before anything is deleted or written.

    Args:
        runs: run folder and settings of every training.
        restart: delete what an earlier training wrote into its folder, instead of resuming this training.
        console: where settings that differ from those before an interruption are reported.

    Raises:
        ConfigError: a folder holds a training with other networks or data, or is to be restarted but holds no training.
        UserError: another process trains in one of the folders.
    """
    with ExitStack() as stack:
        for run, settings in runs:
            changed = _check_restart(run) if restart else _check_resume(run, settings)
            if changed:
                console.print(f"{run} is resumed with other settings: {changed}", markup=False, highlight=False)
        for run, _ in runs:
            stack.enter_context(locked(run))
        for run, settings in runs:
            delete_files(run, (*_OWN_FILES, *_LEFT_OVER) if restart else _LEFT_OVER)
            with replacing(run / CONFIG_NAME) as temporary:
                save_config(settings, temporary)
        yield


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Make a folder and hold its lock, which the system releases even if this process is killed.

    Raises:
        UserError: another process holds the lock.
    """
    run.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(run / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode(errors="replace").strip()
            raise UserError(f"{run}: process {holder} trains in this folder; wait for its end, or choose another --out") from None
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        _held.add(descriptor)
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _close_in_child() -> None:
    """Close the locks in a forked process, such as one that loads data: it must not hold them after the death of its parent."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


def delete_files(run: Path, patterns: Sequence[str]) -> None:
    """Delete the files in a folder whose relative path matches one of the patterns."""
    for pattern in patterns:
        for path in run.glob(pattern):
            path.unlink()


def _check_restart(run: Path) -> str:
    """Check that there is a training to start anew: settings of a training in the folder, or nothing at all."""
    inside = [path.name for path in run.iterdir() if path.name != LOCK_NAME] if run.exists() else []
    if inside and not _holds_settings(run / CONFIG_NAME):
        raise ConfigError(
            f"{run} holds {', '.join(sorted(inside)[:_MOST_NAMED])}, but no {CONFIG_NAME} of a training, "
            "so --restart deletes nothing; choose another --out, or leave --restart out"
        )
    return ""


def _holds_settings(path: Path) -> bool:
    """Return whether a file holds the settings of a training, perhaps of another version."""
    try:
        return {"base", "agents", "training"} <= load_yaml(path).keys()
    except (ConfigError, UnicodeDecodeError):
        return False


def _check_resume(run: Path, settings: TrainingConfig) -> str:
    """Check that a training with these settings may go on in a folder; return the settings that differ from those before."""
    path = run / CONFIG_NAME
    if not path.exists():
        if (run / CHECKPOINT_NAME).exists():
            raise ConfigError(
                f"{run} holds a {CHECKPOINT_NAME}, but no {CONFIG_NAME} that says of which training; choose another --out"
            )
        return ""
    changes = changed_settings(load_config(TrainingConfig, path), settings)
    refused = [text for name, text in changes.items() if name not in CHANGEABLE]
    if refused:
        more = f" and {len(refused) - _MOST_NAMED} more" if len(refused) > _MOST_NAMED else ""
        raise ConfigError(
            f"{path} belongs to a run with other settings: {', '.join(refused[:_MOST_NAMED])}{more}; "
            "choose another --out, or start anew with --restart"
        )
    return ", ".join(changes.values())


def changed_settings(before: TrainingConfig, after: TrainingConfig) -> dict[str, str]:
    """Return the settings that differ, by name, each described as `training.epochs 5 -> 8`."""
    old, new = _flat(to_plain(before)), _flat(to_plain(after))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return {name: f"{name} {old.get(name)} -> {new.get(name)}" for name in names}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one mapping from dotted names to values."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return flat
