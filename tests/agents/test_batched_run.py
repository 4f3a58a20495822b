"""A run that encodes several ticks together finds what a run tick by tick finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from heal.agents.local_runtime import LocalRuntime
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.errors import UserError
from heal.types import Split
from tests.agents.tiny_run import TinyAlliance, TinySource, by_id

SOURCE = TinySource()
TYPES = by_id({"ego": "m1", "b": "m2", "c": "m1", "d": "m2"})


class CountingAlliance(TinyAlliance):
    """A tiny alliance that notes how many agents its networks encode at once."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[str, int]] = []
        for name in self.agent_names:
            self.agent(name).register_forward_hook(lambda _, __, maps, name=name: self.sizes.append((name, len(maps))))


def run(alliance: TinyAlliance, batch: int, options: RunOptions, ticks: Sequence[int] = range(8)) -> list[TickResult]:
    with LocalRuntime(alliance, SOURCE, TYPES, options=options, batch=batch) as runtime:
        return list(runtime.run(ticks))


@pytest.mark.parametrize("split", ["feature", "pyramid", "boxes"])
def test_three_ticks_together_give_the_boxes_of_one_after_the_other(split: Split) -> None:
    options = RunOptions(split=split, keep_views=True, count_points=True)
    alliance = CountingAlliance()
    together, one_by_one = run(alliance, 3, options), run(TinyAlliance(), 1, options)
    # Three ticks of ego, b and c; two of them with two of d and ego; the last one has d and ego alone.
    assert alliance.sizes == [("m1", 6), ("m2", 3), ("m1", 5), ("m2", 3), ("m2", 2), ("m1", 2)]
    assert [result.tick for result in together] == list(range(8))
    for one, other in zip(together, one_by_one, strict=True):
        assert len(one.detections) and len(one.detections) == len(other.detections)
        torch.testing.assert_close(one.detections.corners, other.detections.corners, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(one.detections.scores, other.detections.scores, atol=1e-5, rtol=1e-5)
        assert one.counts == other.counts and one.guard == other.guard
        assert (
            [view.agent_id for view in one.views]
            == [view.agent_id for view in other.views]
            == list(TYPES(SOURCE.outline(one.tick)))
        )
        assert one.visibility is not None and other.visibility is not None
        assert one.visibility.ego_points.tolist() == other.visibility.ego_points.tolist()


@pytest.mark.parametrize("change", [{"adapt": True}, {"realtime": True}], ids=["adapt", "wall clock"])
def test_ticks_that_depend_on_the_one_before_are_not_taken_together(change: dict[str, bool]) -> None:
    with pytest.raises(UserError, match="batch=2: with adapt, or by the wall clock"):
        run(TinyAlliance(), 2, replace(RunOptions(), **change))


def test_a_run_leaves_torch_as_it_was() -> None:
    products = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    for precision, rounded in (("tf32", True), ("float32", False)):
        with LocalRuntime(TinyAlliance(), SOURCE, TYPES, options=replace(RunOptions(), precision=precision)) as runtime:
            assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is rounded
            assert next(runtime.run([0])).tick == 0
    assert products == (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
