"""Settings in words, such as `delay:80,loss:0.1`, as on a command line: their names and values, or what is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """What a text of words says.

    Attributes:
        subject: what the text describes, for errors.
        text: as given.
        pairs: its names and their values; a word without a value has "".
    """

    subject: str
    text: str
    pairs: tuple[tuple[str, str], ...]

    @staticmethod
    def read(subject: str, text: str, names: Sequence[str], flags: Sequence[str] = ()) -> Words:
        """Take a text apart at its commas.

        Args:
            subject: what it describes, such as "link".
            text: `name:value` pairs and flags.
            names: those that take a value.
            flags: those that stand alone.

        Raises:
            ValueError: with what is possible, for an unknown or repeated name, a missing or a needless value.
        """
        pairs: list[tuple[str, str]] = []
        for part in text.split(","):
            name, colon, value = (piece.strip() for piece in part.partition(":"))
            fits = name in flags if not colon else name in names and value != ""
            if not fits or name in dict(pairs):
                possible = ", ".join([*flags, *(f"{each}:..." for each in names)])
                raise ValueError(f"{subject} {text!r}: {part.strip()!r} is not one of {possible}, each at most once")
            pairs.append((name, value))
        return Words(subject, text, tuple(pairs))

    def __contains__(self, name: object) -> bool:
        """Whether the text names it."""
        return name in dict(self.pairs)

    def text_of(self, name: str) -> str | None:
        """The value of a name as written; None if the text does not name it."""
        return dict(self.pairs).get(name)

    def number(self, name: str, default: float) -> float:
        """The value of a name; ValueError if it is not a finite number."""
        value = self.text_of(name)
        return default if value is None else self.to_number(name, value)

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        """The value of a name, which must be one of several."""
        value = self.text_of(name) or default
        if value not in choices:
            raise ValueError(f"{self.subject} {self.text!r}: expected {name}: to be one of {', '.join(choices)}, got {value!r}")
        return value

    def to_number(self, name: str, value: str) -> float:
        """Read the number in a name's value."""
        try:
            number = float(value)
        except ValueError as error:
            raise ValueError(f"{self.subject} {self.text!r}: expected a number after {name}:, got {value!r}") from error
        if not math.isfinite(number):
            raise ValueError(f"{self.subject} {self.text!r}: expected a finite number after {name}:, got {value!r}")
        return number


def number_text(number: float) -> str:
    """A number as short as can be read back to an equal one."""
    return repr(float(number)).removesuffix(".0")
