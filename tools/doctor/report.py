"""Print what the doctor has found, like findings in one line, and write all of it as JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from heal.datasets.doctor.checkup import SplitReport, Verdict
from heal.datasets.doctor.finding import KINDS, Finding, worst_first

if TYPE_CHECKING:
    from heal.tools.doctor.configurations import ConfigurationReport

SHOWN = 3  # of like findings
NAMED = 6  # of like configurations


@dataclass(frozen=True)
class Report:
    """Everything that the doctor says.

    Attributes:
        root: the data set's folder.
        verdict: whether it can be used; None if the checkup was interrupted.
        splits: its splits.
        findings: all findings.
        configurations: the shipped configurations; empty without a split.
        skip_list: the list of the scenes to leave out; None if there is none.
    """

    root: Path
    verdict: Verdict | None
    splits: Sequence[SplitReport]
    findings: Sequence[Finding]
    configurations: Sequence[ConfigurationReport] = ()
    skip_list: Path | None = None

    def record(self) -> dict[str, Any]:
        """Return the report in plain values."""
        return {
            "data": str(self.root.absolute()),
            "verdict": self.verdict or "interrupted",
            "skip_list": self.skip_list and str(self.skip_list),
            "splits": [split.record() for split in self.splits],
            "findings": [finding.record() for finding in worst_first(self.findings)],
            "configurations": {each.name: each.reason or "can run" for each in self.configurations},
        }

    def show(self, console: Console) -> None:
        """Print the report for people."""
        for split in self.splits:
            console.print(_split_text(split), markup=False, highlight=False, soft_wrap=True)
        for group in _grouped(self.findings):
            console.print(_group_text(group, self.root), markup=False, highlight=False, soft_wrap=True)
        for line in _configuration_lines(self.configurations):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        console.print(f"\n{self.root}: {self.verdict or 'interrupted, so there is no verdict'}", markup=False, soft_wrap=True)
        if self.skip_list:
            remedy = f"their scenes are left out with --on-damage {self.skip_list}"
            console.print(f"the errors are listed in {self.skip_list}; {remedy}", markup=False, soft_wrap=True)


def _split_text(split: SplitReport) -> str:
    summary = split.source.summary
    counts = f"{summary.scenarios} scenarios, {summary.frames} frames, {summary.agents} agents"
    sensors = ", ".join(split.installed.names) or "no sensor data"
    labels = f"; {summary.labels_text}" if summary.labels_text else ""
    notes = "".join(f"\n  {note}" for note in summary.notes)
    return f"{summary.layout} {summary.split}: {counts}; {sensors}{labels}; {split.best} frames can be used{notes}"


def _grouped(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Put together the findings of a kind and a split; the worst kinds come first."""
    groups: defaultdict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in worst_first(findings):
        groups[finding.kind, finding.split].append(finding)
    return list(groups.values())


def _group_text(group: Sequence[Finding], root: Path) -> str:
    first = group[0]
    split, count = f" ({first.split})" if first.split else "", f", {len(group)} times" if len(group) > 1 else ""
    lines = [f"\n{first.severity} {first.kind}{split}: {KINDS[first.kind].meaning}{count}"]
    lines += [f"  {_short(each.path, root)}: expected {each.expected}; found {each.found}" for each in group[:SHOWN]]
    if len(group) > SHOWN:
        lines.append(f"  and {len(group) - SHOWN} more, see --json")
    return "\n".join([*lines, *(f"  remedy: {remedy}" for remedy in dict.fromkeys(finding.remedy for finding in group[:SHOWN]))])


def _short(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) and path != root else str(path)


def _configuration_lines(configurations: Sequence[ConfigurationReport]) -> list[str]:
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for each in configurations:
        reasons[each.reason].append(each.name)
    lines = [""] if configurations else []
    for reason, names in sorted(reasons.items()):
        more = f" and {len(names) - NAMED} more, see --json" if len(names) > NAMED else ""
        said = f"cannot run, {reason}" if reason else "can run"
        lines.append(f"{len(names)} configurations {said}: {', '.join(names[:NAMED])}{more}")
    return lines
