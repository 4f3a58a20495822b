"""Waiting for the results of many calls at once, so that no call waits for its turn behind one that hangs."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any

import ray


def done_times(references: Sequence[Any], until_s: float, needed: Any = None, needed_until_s: float = 0.0) -> list[float | None]:
    """Wait until all results are there, but no longer than until `until_s`, or until the result that is needed is there.

    Args:
        references: to results, each a different one.
        until_s: by the monotonic clock.
        needed: the one among them that is waited for longer; None if there is none.
        needed_until_s: until when it is waited for, by the monotonic clock.

    Returns:
        For each reference when its result was there, by the monotonic clock; None if it is not there yet.
    """
    times: dict[Any, float] = {}
    pending = list(references)
    while pending:
        end_s = until_s if needed is None or needed in times else needed_until_s
        done, pending = ray.wait(pending, num_returns=1, timeout=max(0.0, end_s - monotonic()))
        if not done:
            break
        now_s = monotonic()
        # Everything else that has come in the meantime, in one call.
        more, pending = ray.wait(pending, num_returns=len(pending), timeout=0) if pending else ([], [])
        times |= dict.fromkeys([*done, *more], now_s)
    return [times.get(reference) for reference in references]
