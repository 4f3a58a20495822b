"""The tables of `heal info` are whole in narrow terminals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from heal.alliance import TrainingRecord, load_alliance, save_agent, save_base
from heal.tools import info
from heal.tools.shared.scoring import EVALUATIONS_NAME
from tests.heal.networks import small_model
from tests.tools.command import run_command


@pytest.mark.parametrize("columns", [60, 80])
def test_no_heading_and_no_value_is_cut(columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, record = small_model(), TrainingRecord(data="town", scenes=1000, epochs=17, seconds=1560.4)
    save_agent(tmp_path, "m1", model.agent("m1"), save_base(tmp_path, model.base, record), record, trust=0.3)
    run = {"ap": {"0.3": 0.744, "0.5": 0.715, "0.7": 0.567}, "frames": 100, "range_m": [0] * 6}
    (tmp_path / EVALUATIONS_NAME).write_text(json.dumps({"test-all, test": {"m1 + m2 + m3 + m4": run}}))
    monkeypatch.setattr(info, "console", Console(width=columns))
    monkeypatch.chdir(tmp_path)  # the heading has the folder as it is given
    shown = run_command("info", ".")
    assert "\u2026" not in shown and max(map(len, shown.splitlines())) <= columns
    for text in (
        "eters",
        "hash",
        "trained",
        "scenes",
        "epochs",
        "minutes",
        "evaluated",
        "agents",
        "AP@0.3",
        "AP@0.7",
        "frames",
        "26.0",
    ):
        assert text in shown, text
    # A hash continues in the next line of its column.
    lines = [line for line in shown.splitlines() if line.startswith(("base", " "))]
    start = next(line for line in shown.splitlines() if "hash" in line).index("hash")
    after_base = lines[[line.startswith("base") for line in lines].index(True) :][:2]
    found = "".join(line[start : start + 12].split(" ")[0] for line in after_base)
    assert load_alliance(tmp_path).base_hash.startswith(found[:12]) and len(found) >= 12
