"""Codecs: the ways to write feature maps as bytes. A codec sets the format of values, the choice of cells and the compression."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from heal.errors import UserError
from heal.option_text import OptionText

Values = Literal["float32", "float16", "int8", "int4"]
# In the order of their codes in a message header, which count from 1.
VALUES: tuple[Values, ...] = get_args(Values)

_EXPECTED = (
    f"expected {', '.join(VALUES[:-1])} or {VALUES[-1]}, and after it score:S (0 to 1), budget:BYTES or ae:RATIO (at least 1), "
    "or zstd; such as int8,budget:84000,zstd"
)


@dataclass(frozen=True)
class Codec:
    """A way to write feature maps.

    Attributes:
        values: how a number is stored. int8 has 256 values over each channel's range; int4 has 16 over the range of a scale's
            widest channel, in steps that all its channels share.
        min_score: only cells with at least this foreground score are sent; 0 sends all.
        budget_bytes: send only the best cells, as many as keep the whole message within this length; no cell if not even an empty
            message does. None for no limit.
        zstd: compress the bytes with zstd.
        ae_ratio: send the feature map as the alliance's compressor of this ratio encodes it, an autoencoder of channels; the codec
            writes the encoded map. None for the map itself. Under the feature split only.
    """

    values: Values = "float32"
    min_score: float = 0.0
    budget_bytes: int | None = None
    zstd: bool = False
    ae_ratio: int | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a value out of its range."""
        if self.values not in VALUES:
            raise UserError(f"Codec.values: expected one of {', '.join(VALUES)}, got {self.values!r}")
        if not (math.isfinite(self.min_score) and 0 <= self.min_score <= 1):
            raise UserError(f"Codec.min_score: expected 0 to 1, got {self.min_score}")
        if self.budget_bytes is not None and self.budget_bytes < 1:
            raise UserError(f"Codec.budget_bytes: expected at least 1, or None for no limit, got {self.budget_bytes}")
        if self.ae_ratio is not None and self.ae_ratio < 1:
            raise UserError(f"Codec.ae_ratio: expected at least 1, or None for no compressor, got {self.ae_ratio}")

    @property
    def chooses_cells(self) -> bool:
        """Whether foreground scores decide which cells are sent."""
        return self.min_score > 0 or self.budget_bytes is not None

    @staticmethod
    def parse(text: str) -> Codec:
        """Read a codec from options such as "float32", "int8,score:0.1,zstd" or "float16,ae:8,budget:84000,zstd".

        The first item is the format of the values.

        Raises:
            ValueError: for any other text; the message says which options are possible.
        """
        options = OptionText.read("codec", text, ("score", "budget", "ae"), (*VALUES, "zstd"))
        values, *others = [name for name, _ in options.pairs]
        if values not in VALUES or any(name in VALUES for name in others):
            raise options.error(f"the format of values comes first and only once; {_EXPECTED}")
        score, budget = options.number("score", 0.0), options.whole_number("budget")
        try:
            return Codec(values, score, budget, "zstd" in options, options.whole_number("ae"))
        except ValueError as error:
            raise options.error(f"{error}; {_EXPECTED}") from error

    def __str__(self) -> str:
        """Return the options that `parse` reads back to this codec."""
        score = [f"score:{self.min_score!r}"] if self.min_score else []
        budget = [] if self.budget_bytes is None else [f"budget:{self.budget_bytes}"]
        encoded = [] if self.ae_ratio is None else [f"ae:{self.ae_ratio}"]
        return ",".join([self.values, *encoded, *score, *budget, *(["zstd"] if self.zstd else [])])


FLOAT32 = Codec()
