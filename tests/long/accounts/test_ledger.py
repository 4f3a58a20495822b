"""Every message of a troubled run ends in exactly one way, and the accounts notice one that does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from heal.agents.local_runtime import LocalRuntime
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from tests.agents.tiny_run import TinyAlliance, by_id
from tests.long.accounts.ledger import FUSED, Ledger
from tests.long.accounts.troubles import TroubledMailbox, TroubledNetwork, TroubledSource, Troubles, damage_bytes, scenes

TICKS = 100
TYPES = by_id(dict.fromkeys(("ego", "b", "c", "d"), "m1"))
TROUBLES = Troubles(seed=1, share=0.6)


def troubled_run(options: RunOptions) -> Iterator[TickResult]:
    source = TroubledSource(scenes(("ego", "b", "c", "d"), TICKS, seed=1, ticks_each=25), TROUBLES)
    with LocalRuntime(TinyAlliance(), source, TYPES, TroubledNetwork(TROUBLES), options, tolerant=True) as runtime:
        mailbox: Any = TroubledMailbox(options, TROUBLES, damage_bytes)
        runtime._coordinator._mailbox = mailbox
        yield from runtime.run(range(TICKS))


def entered(results: list[TickResult], keeps_late: bool = True) -> Ledger:
    ledger = Ledger(lambda tick: [record.agent_id for record in results[tick].messages], "ego", TROUBLES, keeps_late)
    for result in results:
        ledger.add(result)
    ledger.close()
    return ledger


@pytest.mark.parametrize(
    "changes",
    [{}, {"late": "drop"}, {"late": "hold", "split": "boxes"}, pytest.param({"region_m": 12.0}, marks=pytest.mark.nightly)],
)
def test_every_message_of_a_troubled_run_ends_in_exactly_one_way(changes: dict[str, Any]) -> None:
    options = RunOptions(**changes)
    results = list(troubled_run(options))
    ledger = entered(results, options.late != "drop")
    assert ledger.problems == []
    assert ledger.messages == sum(len(result.messages) for result in results)
    reasons = {end.rpartition(": ")[2] for end in ledger.ends}
    assert reasons >= {FUSED, "lost in trouble", "malformed", "implausible pose", "agent failed", "stale", "clock ahead"}
    late = {"late"} if options.late == "drop" else {"too late", "superseded", "late, then fused as an older map"}
    assert reasons >= late, "a late message was of no use, or was used later"
    # With regions there is one reason for a message, whatever each of them says.
    assert options.region_m or ledger.copies["duplicate"] > 5, "the second copy of a message that was used is turned down"


def test_the_accounts_notice_what_is_missing_or_has_no_cause() -> None:
    results = [next(troubled_run(RunOptions()))]
    assert entered(results).problems == []
    silent = replace(results[0], messages=results[0].messages[:-1])
    ledger = Ledger(lambda _: [record.agent_id for record in results[0].messages], "ego", TROUBLES)
    ledger.add(silent)
    assert len(ledger.problems) == 1 and "expected are" in ledger.problems[0]
    quiet = Ledger(lambda _: [record.agent_id for record in results[0].messages], "ego", Troubles(seed=1, share=0.0))
    gone = [replace(record, status="lost", reason="") for record in results[0].messages]
    quiet.add(replace(results[0], messages=tuple(gone)))
    assert sum("without a reason" in problem for problem in quiet.problems) == len(gone)
    assert sum("without a cause" in problem for problem in quiet.problems) == len(gone)
