"""The tables of scores in a narrow terminal: no number and no word of a run's name is cut."""

import pytest
from rich.console import Console

from heal.detection.metrics import Recall
from heal.tools.shared.scoring import RunScore, score_table
from heal.tools.sweeps.rows import SweepRow, sweep_table
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


def test_a_sweeps_table_has_all_its_columns_in_a_narrow_terminal() -> None:
    ap, names = {"0.3": 0.911, "0.5": 0.904, "0.7": 0.804}, ("ego alone", "0.4 m, 0.4 deg, not corrected", "float16,zstd,top:0.25")
    rows = [SweepRow("series", 1.0, name, ap, ap, 200.0, 300.0, 3_756_400, 0.75, 0.91, 96, 88) for name in names]
    console = Console(width=80)
    with console.capture() as captured:
        console.print(sweep_table(rows, "noise"))
    text = captured.get()
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    side = "\N{BOX DRAWINGS LIGHT VERTICAL}"
    assert all(line.endswith(side) for line in text.splitlines() if line.startswith(side))
    assert text.count("3756.4") == text.count("75%, 91%") == len(names)
