"""Several processes that share recordings give the score of one; options of the command line say who computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from heal.agents.options import RunOptions
from heal.alliance import load_alliance
from heal.datasets.assignment import Assignment
from heal.errors import UserError
from heal.tools.evaluation import compute as compute_module
from heal.tools.evaluation.compute import Compute
from heal.tools.evaluation.scenes import Evaluated, part_scores, recordings_of, results_of
from heal.tools.shared.scoring import RunScore
from tests.agents.tiny_run import TinySource, save_tiny_alliance

SOURCE = TinySource(ticks_each=3)
TYPES = Assignment({f"tiny-{i}": dict.fromkeys(ids, "m1") for i, ids in enumerate(SOURCE.scenarios)}).types_of


def test_the_parts_of_several_processes_add_up_to_the_whole(tmp_path: Path) -> None:
    alliance = load_alliance(save_tiny_alliance(tmp_path / "alliance"))
    evaluated = Evaluated(alliance, SOURCE, TYPES, RunOptions(keep_views=frozenset({1, 4})), keep_boxes=True)
    ticks, whole = range(len(SOURCE)), RunScore(evaluated.range_m, keep_boxes=True)
    for result in results_of(evaluated, ticks, Compute()):
        whole.add(result, result.visibility)
    recordings = recordings_of(ticks, [SOURCE.outline(tick) for tick in ticks])
    assert recordings == [[0, 1, 2], [3, 4, 5]]
    merged, shown = RunScore(evaluated.range_m, keep_boxes=True), list[int]()
    for part in part_scores(evaluated, recordings, Compute(processes=2, batch=2)):
        merged.merge(part.score)
        shown += [result.tick for result in part.shown if result.views]
    counts = [[(len(found.scores), len(objects.ids)) for found, objects in score.boxes] for score in (merged, whole)]
    assert counts[0] == counts[1] and len(counts[0]) == len(SOURCE)
    assert shown == [1, 4] and merged.matches().scene_ids.tolist() == whole.matches().scene_ids.tolist()
    found, expected = merged.metrics(), whole.metrics()
    assert found.pop("heading_error") == pytest.approx(expected.pop("heading_error"))
    for ap in ("0.3", "0.5", "0.7"):
        assert found["ap"].pop(ap) == pytest.approx(expected["ap"].pop(ap), abs=1e-4)
    assert {name: found[name] for name in ("frames", "agents", "ground_truths", "bytes_per_message")} == {
        name: expected[name] for name in ("frames", "agents", "ground_truths", "bytes_per_message")
    }
    assert found["hidden_from_ego"]["vehicles"] == expected["hidden_from_ego"]["vehicles"]


def test_an_error_in_a_part_ends_the_evaluation(tmp_path: Path) -> None:
    alliance = load_alliance(save_tiny_alliance(tmp_path / "alliance"))
    evaluated = Evaluated(alliance, TinySource(ticks_each=1, broken="d"), TYPES, RunOptions())
    parts = part_scores(evaluated, [[0], [1]], Compute(processes=2))
    assert next(parts).score.frames == 1
    with pytest.raises(ValueError, match=r"^cloud of d is truncated$"):
        next(parts)


def test_each_gpu_has_a_process_that_takes_several_scenes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute_module, "usable_cores", lambda: 8)
    assert Compute.of("auto", None, None, None) == Compute(("cpu",), 1, 1, 0)
    assert Compute.of("cpu", 3, 2, 1) == Compute(("cpu",), 3, 2, 1)
    with pytest.raises(UserError, match="--device cuda: torch finds no GPU"):
        Compute.of("cuda", None, None, None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    both = Compute.of("auto", None, None, None)
    assert both == Compute(("cuda:0", "cuda:1"), 2, 4, 3)
    assert [both.of_process(number).devices for number in range(3)] == [("cuda:0",), ("cuda:1",), ("cuda:0",)]
    assert Compute.of("cuda:1", None, 16, 0) == Compute(("cuda:1",), 1, 16, 0)
