"""The teacher of a training: the alliance of early fusion whose maps a base is to have (`training.teacher`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from heal.alliance import load_alliance
from heal.collab_model import CollabModel
from heal.config import ConfigError
from heal.training.config import TrainingConfig
from heal.training.distillation import make_teacher


def with_teacher(settings: TrainingConfig) -> TrainingConfig:
    """Return settings with the absolute path of their teacher, and with its hash; as they are without a teacher.

    Raises:
        AllianceError: the teacher is no alliance.
    """
    training = settings.training
    if not training.teacher:
        return replace(settings, training=replace(training, teacher_hash=""))
    path = Path(training.teacher).absolute()
    known = replace(training, teacher=str(path), teacher_hash=load_alliance(path).base_hash)
    return replace(settings, training=known)


def load_teacher(settings: TrainingConfig) -> CollabModel | None:
    """Load the teacher of a training; None if it has none.

    Raises:
        AllianceError: the teacher is no alliance.
        ConfigError: the teacher is another one than at the beginning of the training, or has no agent type.
    """
    training = settings.training
    if not training.teacher:
        return None
    alliance = load_alliance(Path(training.teacher))
    if alliance.base_hash != training.teacher_hash:
        raise ConfigError(
            f"training.teacher: {training.teacher} has the base {alliance.base_hash[:12]}, and the training began with the teacher "
            f"{training.teacher_hash[:12]}; give that one, or start anew with --restart"
        )
    names = [name for name in alliance.card.training.agent_types if name in alliance.agent_names] or alliance.agent_names
    if not names:
        raise ConfigError(
            f"training.teacher: {training.teacher} has no agent type; expected an alliance of early fusion with its type"
        )
    return make_teacher(alliance.base, names[0], alliance.agent(names[0]))
