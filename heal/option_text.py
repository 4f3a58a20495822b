"""Options as text on a command line, such as `delay:80,loss:0.1`: their names, values and errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from heal.errors import UserError

_MOST_DIGITS = 9


@dataclass(frozen=True)
class OptionText:
    """The names and values of a text of options.

    Attributes:
        subject: the thing that the text describes, such as "link"; it begins every error message.
        text: the text as given.
        pairs: names and values in their order in the text; a name without a value (a flag) has "".
    """

    subject: str
    text: str
    pairs: tuple[tuple[str, str], ...]

    @staticmethod
    def read(subject: str, text: str, names: Sequence[str], flags: Sequence[str] = ()) -> OptionText:
        """Split a text at its commas into names and values.

        Args:
            subject: the thing that the text describes, such as "link".
            text: `name:value` pairs and flags, separated by commas.
            names: the names that take a value.
            flags: the names that stand alone.

        Raises:
            ValueError: an unknown or repeated name, or a missing or needless value; the message lists what is possible.
        """
        pairs: list[tuple[str, str]] = []
        for part in text.split(","):
            name, colon, value = (piece.strip() for piece in part.partition(":"))
            fits = name in flags if not colon else name in names and value != ""
            if not fits or name in dict(pairs):
                possible = ", ".join([*flags, *(f"{known}:..." for known in names)])
                raise UserError(f"{subject} {text!r}: {part.strip()!r} is not one of {possible}, each at most once")
            pairs.append((name, value))
        return OptionText(subject, text, tuple(pairs))

    def __contains__(self, name: object) -> bool:
        """Whether the text contains the option."""
        return name in dict(self.pairs)

    def error(self, message: str) -> ValueError:
        """Make an error that begins with the subject and the text."""
        return UserError(f"{self.subject} {self.text!r}: {message}")

    def text_of(self, name: str) -> str | None:
        """Return the value of an option as written; None if the text does not contain the option."""
        return dict(self.pairs).get(name)

    def number(self, name: str, default: float) -> float:
        """Return the value of an option as a number; ValueError if it is not a finite number."""
        value = self.text_of(name)
        return default if value is None else self.to_number(name, value)

    def whole_number(self, name: str) -> int | None:
        """Return the value of an option as a whole number, None if the text lacks the option; ValueError for any other number."""
        value = self.text_of(name)
        try:
            return None if value is None else int(value)
        except ValueError as error:
            raise self.error(f"expected a whole number after {name}:, got {value!r}") from error

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        """Return the value of an option; ValueError if it is not one of `choices`."""
        value = self.text_of(name) or default
        if value not in choices:
            raise self.error(f"expected {name}: to be one of {', '.join(choices)}, got {value!r}")
        return value

    def to_number(self, name: str, value: str) -> float:
        """Read a finite number from (a part of) an option's value; ValueError names the option."""
        try:
            number = float(value)
        except ValueError as error:
            raise self.error(f"expected a number after {name}:, got {value!r}") from error
        if not math.isfinite(number):
            raise self.error(f"expected a finite number after {name}:, got {value!r}")
        return number


def count_in(text: str) -> int | None:
    """Return the whole number that a text of at most nine digits is; None for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None


def number_text(number: float) -> str:
    """Return the shortest text that reads back to an equal number."""
    return repr(float(number)).removesuffix(".0")
