"""Work for other processes, which have to be able to import it."""

from __future__ import annotations

import os

from heal.errors import UserError


def give(value: int) -> int:
    return value


def refuse() -> None:
    raise UserError("the loss is not finite")


def die() -> None:
    os._exit(7)
