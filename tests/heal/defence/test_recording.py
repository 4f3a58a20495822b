"""The recorder of honest maps: too few maps are refused, and an ego that sees little disputes nobody."""

from __future__ import annotations

import pytest
import torch

from heal.defence.agreement import Agreement
from heal.defence.recording import StatisticsRecorder
from heal.errors import UserError


def recorder_of(maps: int, covered: float = 1.0) -> StatisticsRecorder:
    recorder, generator = StatisticsRecorder(), torch.Generator().manual_seed(0)
    for _ in range(maps):
        feature, coarse = (torch.randn(1, 3, size, size, generator=generator) for size in (16, 8))
        recorder.add_map(feature, [feature + 1, coarse], [torch.full((1, 1, 16, 16), covered), torch.full((1, 1, 8, 8), covered)])
    return recorder


def test_the_statistics_are_those_of_the_map_and_of_every_scale() -> None:
    found = recorder_of(30).statistics()
    assert found.maps == 30 and len(found.scales) == 2
    torch.testing.assert_close(found.scales[0].middles[0], found.feature.middles[0] + 1, atol=1e-2, rtol=0)
    assert (found.least_confirmed, found.least_noticed) == (0.0, 0.0)


def test_too_few_maps_and_maps_that_cover_nothing_are_no_statistics() -> None:
    for recorder in (recorder_of(19), recorder_of(30, covered=0.0)):
        with pytest.raises(UserError, match="expected at least 20 maps"):
            recorder.statistics()


@pytest.mark.parametrize(("least", "recorded"), [(0.5, 0.4), (0.1, 0.0)])
def test_an_ego_disputes_by_the_least_agreement_of_honest_senders(least: float, recorded: float) -> None:
    recorder = recorder_of(30)
    for share in (least, *[0.9] * 30):
        recorder.add_agreement(Agreement(20, share, 5, 0.0))
    assert (recorder.statistics().least_confirmed, recorder.statistics().least_noticed) == (recorded, 0.0)
