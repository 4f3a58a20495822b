"""Whether the foreground scores that a sender claims follow from its scales, as they do when the base's trunk has computed both."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from heal.fusion.interface import Fusion

MOST_DIFFERENCE = 0.5
"""The largest difference of a score. Codecs round maps and scores, so those of an honest sender do not fit exactly."""


def unfounded_scores(fusion: Fusion, maps: Sequence[Tensor], scores: Sequence[Tensor]) -> str | None:
    """Return why scores do not follow from scales; None if they do, or if the fusion scores no foreground.

    Args:
        fusion: of the base.
        maps: per scale (1, C, ny, nx).
        scores: per scale (1, 1, ny, nx), 0 in cells that were not sent.
    """
    if not fusion.scores_foreground:
        return None
    with torch.no_grad():
        expected = fusion.scores(fusion.occupancy(maps))
    for number, (own, sent) in enumerate(zip(expected, scores, strict=True)):
        difference = float(torch.where(sent == 0, 0.0, (own - sent).abs()).max())
        if not difference <= MOST_DIFFERENCE:
            return f"a score of scale {number} is {difference:.2f} from that of its map, allowed is {MOST_DIFFERENCE:g}"
    return None
