"""HEAL's names of Lift-Splat's weights, which differ in the trunks: HEAL does not take them from timm."""

from __future__ import annotations

from collections.abc import Iterable

from heal.config import ConfigError
from heal.encoders.trunk_weights import package_names

# timm's name of a trunk -> HEAL's name.
REFERENCE_TRUNKS = {"tf_efficientnet_b0": "EfficientNet", "resnet101": "Resnet101"}
_TRUNK = "camencode.trunk.net."


def reference_names(ours: Iterable[str], trunk: str) -> dict[str, str]:
    """Return HEAL's name of every weight of the encoder, by our name; neither has the prefix of the encoder.

    Args:
        ours: our names of all weights of the encoder.
        trunk: timm's name of its trunk.

    Raises:
        ConfigError: HEAL has no such trunk.
    """
    names = list(ours)
    inside = [name.removeprefix(_TRUNK) for name in names if name.startswith(_TRUNK)]
    if reference_trunk(trunk) == "EfficientNet":
        theirs = {name: f"camencode.trunk.{renamed}" for name, renamed in package_names(inside).items()}
    else:
        theirs = {name: f"camencode.{name}" for name in inside}
    return {name: theirs[name.removeprefix(_TRUNK)] if name.startswith(_TRUNK) else name for name in names}


def reference_trunk(trunk: str) -> str:
    """Return HEAL's name of a trunk; ConfigError if HEAL has no such trunk."""
    network = trunk.partition(".")[0]  # after the point, timm names the training of the published weights
    if network not in REFERENCE_TRUNKS:
        raise ConfigError(f"encoder.trunk={trunk}: HEAL has only {' and '.join(REFERENCE_TRUNKS)}")
    return REFERENCE_TRUNKS[network]
