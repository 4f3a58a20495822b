"""The table of scores in a narrow terminal: no number and no word of a run's name is cut."""

import pytest
from rich.console import Console

from heal.detection.metrics import Recall
from heal.tools.shared.scoring import RunScore, score_table
from tests.agents.made_ticks import RANGE_M, made_tick

NAMES = ("the ego (m1) alone", "together: m1, m2, m3, m4", "dair_m2 + m1")


@pytest.mark.parametrize("width", [80, 100, 160])
def test_no_word_of_a_row_is_cut(width: int) -> None:
    score = RunScore(RANGE_M, hidden=Recall(600, 614))
    score.add(made_tick())
    console = Console(width=width)
    with console.capture() as captured:
        console.print(score_table(dict.fromkeys(NAMES, score), "an unseen town"))
    text = captured.get()
    assert "\N{HORIZONTAL ELLIPSIS}" not in text and max(map(len, text.splitlines())) <= width
    cells = {word for line in text.splitlines() for word in line.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split()}
    words = {word for name in NAMES for word in name.split()}
    assert cells >= words | {"1.000", "0.98", "614", "AP@0.7", "heading", "hidden", "frames", "message"}
