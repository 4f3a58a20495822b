"""How feature maps become bytes: how values are stored, which cells are sent, whether the bytes are compressed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Values = Literal["float32", "float16", "int8", "int4"]


_POSSIBLE = (
    f"expected one of {', '.join(get_args(Values))}, and after it, each at most once: score:S (0 to 1), budget:BYTES (at least 1), "
    "zstd; such as int8,budget:84000,zstd"
)


@dataclass(frozen=True)
class Codec:
    """A way to write feature maps.

    Attributes:
        values: how a number is stored. int8 has 256 values over each channel's range; int4 has 16 over the range of a scale's
            widest channel, in steps that all its channels share.
        min_score: only cells with at least this foreground score are sent; 0 sends all.
        budget_bytes: only the best cells, so many that the whole message is no longer than this, or none where not even that fits;
            None for no limit.
        zstd: compress what is left.
    """

    values: Values = "float32"
    min_score: float = 0.0
    budget_bytes: int | None = None
    zstd: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for what cannot be meant."""
        if self.values not in get_args(Values):
            raise ValueError(f"Codec.values: expected one of {', '.join(get_args(Values))}, got {self.values!r}")
        if not (math.isfinite(self.min_score) and 0 <= self.min_score <= 1):
            raise ValueError(f"Codec.min_score: expected 0 to 1, got {self.min_score}")
        if self.budget_bytes is not None and self.budget_bytes < 1:
            raise ValueError(f"Codec.budget_bytes: expected at least 1, or None for no limit, got {self.budget_bytes}")

    @property
    def chooses_cells(self) -> bool:
        """Whether foreground scores decide which cells are sent."""
        return self.min_score > 0 or self.budget_bytes is not None

    @staticmethod
    def parse(text: str) -> Codec:
        """The codec in words, such as "float32", "int8,score:0.1,zstd" or "float16,budget:84000,zstd".

        Raises:
            ValueError: for any other words; it says which are possible.
        """
        values, *words = text.strip().split(",")
        given: dict[str, str] = {}
        for word in words:
            name, _, value = word.strip().partition(":")
            if name not in ("score", "budget", "zstd") or name in given or bool(value) == (name == "zstd"):
                raise ValueError(f"codec {text!r}: {word!r} cannot be read; {_POSSIBLE}")
            given[name] = value
        try:
            score, budget = float(given.get("score", 0)), int(given["budget"]) if "budget" in given else None
            return Codec(values.strip(), score, budget, "zstd" in given)  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(f"codec {text!r}: {error}; {_POSSIBLE}") from error

    def __str__(self) -> str:
        """The words that `parse` reads."""
        score = [f"score:{self.min_score!r}"] if self.min_score else []
        budget = [] if self.budget_bytes is None else [f"budget:{self.budget_bytes}"]
        return ",".join([self.values, *score, *budget, *(["zstd"] if self.zstd else [])])


FLOAT32 = Codec()
