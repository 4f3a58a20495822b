"""Commands that are killed again and again, at random instants: repeated, each ends with the result of a run without a kill.

    python -m tests.long.kills --kills 200 --seed 0 --out runs/kills
    python -m tests.long.kills --kills 20 --only compare --seed 7 --out runs/kills

Training of a base and of a type, generation of a town, an evaluation that fills a cache, a sweep, a comparison and a simulation
take turns. Each is killed one to four times, after a random part of its time; then it may run to its end. Most kills are SIGKILL
to the whole process group or to the first process alone, the others SIGTERM to the first process or SIGINT to the group, as by
Ctrl-C.
Afterwards the results, which are compared by content, have to be those of an undisturbed run, and nothing may be left: no process,
no temporary file, nothing in shared memory, and no other file beside the results. The accounts are printed and written to
OUT/kills.json. The exit status is 1 if anything is different or left over; the line that says so has the command that repeats it.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from heal.agents.process import be_killed_with_parent
from tests.long.commands import CASES, Case, prepare
from tests.long.left_over import abandoned, files_below, shared_memory, wait_until_gone
from tests.tools.command import restore_interrupts

MARK = "HEAL_LONG_RUN"
PATIENCE_S, GONE_S, MOST_KILLS = 1800.0, 30.0, 4
# What is sent, whether to the whole group, and how often.
BLOWS = {(signal.SIGKILL, True): 6, (signal.SIGKILL, False): 2, (signal.SIGTERM, False): 1, (signal.SIGINT, True): 1}
SEMAPHORE = "sem.mp-"
# Names of files that differ from run to run.
_ANY_NAME = re.compile(r"events\.out\.tfevents\..*")
console = Console()


@dataclass
class Account:
    """What has become of one command.

    Attributes:
        seconds: of an undisturbed run.
        kills: how often it was killed.
        resumed: how often it was started again with something to go on from.
        episodes: how often it was let run to its end after kills.
        equal: how often the result was that of the undisturbed run.
        killed_s: time of all starts that were killed.
        extra_s: time of all starts beyond that of undisturbed runs: the part of `killed_s` that had to be done again.
        semaphores: how many semaphores of Python's pools were left, because SIGKILL had ended the process that removes them too.
        problems: what was different or left over, each with the command that repeats it.
    """

    seconds: float
    kills: int = 0
    resumed: int = 0
    episodes: int = 0
    equal: int = 0
    killed_s: float = 0.0
    extra_s: float = 0.0
    semaphores: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def redone(self) -> float:
        """The share of the killed work that had to be done again, starting up included."""
        return self.extra_s / self.killed_s if self.killed_s else 0.0


@dataclass(frozen=True)
class Bench:
    """Where commands are run.

    Attributes:
        folder: of what they read and write.
        temporary: folder of temporary files; its path is short, as Ray's sockets lie in it.
    """

    folder: Path
    temporary: Path

    def start(self, command: str, out: Path, mark: str) -> subprocess.Popen[bytes]:
        """Start `heal` in a session of its own, marked in its environment; its output goes to the file OUT.log."""
        arguments = [word.replace("IN/", f"{self.folder}/in/").replace("OUT", str(out)) for word in command.split()]
        # torch makes a cache of compiled code among the temporary files, for all programs and for good.
        caches = {"TORCHINDUCTOR_CACHE_DIR": str(self.folder / "torch_cache")}
        environment = {**os.environ, **caches, MARK: mark, "TMPDIR": str(self.temporary)}
        with out.with_suffix(".log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "heal.tools.cli", *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                preexec_fn=_begin,
            )

    def run(self, command: str, out: Path) -> float:
        """Run a command to its end, and return how many seconds it took; AssertionError if it fails."""
        began_s = time.monotonic()
        with self.start(command, out, uuid.uuid4().hex) as process:
            status = process.wait()
        assert status == 0, f"heal {command} ended with status {status}: {tail(out)}"
        return time.monotonic() - began_s


def _begin() -> None:
    """Let a command react to Ctrl-C, whatever this program does, and end with this program."""
    restore_interrupts()
    be_killed_with_parent()


def tail(out: Path) -> str:
    """Return the end of a command's output."""
    return out.with_suffix(".log").read_text(errors="replace")[-2000:]


def kill(process: subprocess.Popen[bytes], number: int, group: bool) -> str:
    """Send a signal to a command or to its process group, and wait for its end; return what was wrong about it, "" if nothing."""
    with suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(process.pid, number)
    try:
        process.wait(GONE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f"it still runs {GONE_S:g} s after {signal.Signals(number).name}"
    return ""


class Episode:
    """One command that is killed a few times, and then run to its end."""

    def __init__(self, case: Case, bench: Bench, account: Account, draws: random.Random) -> None:
        """Begin in an empty folder."""
        self._case, self._bench, self._account, self._draws = case, bench, account, draws
        self._out, self._mark = bench.folder / "killed", uuid.uuid4().hex
        shutil.rmtree(self._out, ignore_errors=True)
        self._out.with_suffix(".log").unlink(missing_ok=True)
        self._before = shared_memory()

    def run(self, kills: int, whole: Path, expected: object) -> Iterator[str]:
        """Kill the command up to `kills` times, let it run to its end, and yield whatever is wrong."""
        ended, killed_s, seconds = False, 0.0, 0.0
        while not ended:
            self._account.resumed += bool(self._case.progress(self._out))
            kill_after_s = self._draws.uniform(0.05, 1.0) * self._account.seconds if kills else None
            began_s = time.monotonic()
            with self._bench.start(self._case.command, self._out, self._mark) as process:
                ended, problem = self._watch(process, kill_after_s)
            seconds = time.monotonic() - began_s
            if not ended:
                kills, killed_s = kills - 1, killed_s + seconds
            yield from [problem] if problem else []
            yield from (f"left over: process {line}" for line in wait_until_gone(MARK, self._mark, GONE_S))
        self._account.killed_s += killed_s
        self._account.extra_s += killed_s + seconds - self._account.seconds
        yield from self._compare(whole, expected)

    def _watch(self, process: subprocess.Popen[bytes], kill_after_s: float | None) -> tuple[bool, str]:
        """Kill a command after a time, or wait for its end; return whether it has come to its end, and what was wrong."""
        try:
            status = process.wait(PATIENCE_S if kill_after_s is None else kill_after_s)
        except subprocess.TimeoutExpired:
            if kill_after_s is None:
                os.killpg(process.pid, signal.SIGKILL)
                return True, f"it has not ended after {PATIENCE_S:g} s: {tail(self._out)}"
            self._account.kills += 1
            return False, kill(process, *self._draws.choices(list(BLOWS), list(BLOWS.values()))[0])
        return True, f"it ended with status {status}: {tail(self._out)}" if status else ""

    def _compare(self, whole: Path, expected: object) -> Iterator[str]:
        """Compare with an undisturbed run, and yield what is different or left over."""
        self._account.episodes += 1
        try:
            equal = self._case.result(self._out) == expected
        except (OSError, ValueError) as error:
            yield f"its result cannot be read: {error}"
        else:
            self._account.equal += equal
            if not equal:
                yield "its result is not that of an undisturbed run"
        for name in sorted(names(self._out) ^ names(whole)):
            yield f"{'left over' if (self._out / name).exists() else 'missing'}: {name}"
        for name in files_below(self._bench.temporary):
            yield f"left over: temporary file {name}"
        for name in abandoned(shared_memory() - self._before):
            if name.startswith(SEMAPHORE):
                self._account.semaphores += 1
            else:
                yield f"left over: shared memory {name}"


def names(folder: Path) -> set[str]:
    """Return the paths of all files and folders below a folder, without those that have another name in every run."""
    return {_ANY_NAME.sub("events", name) for name in files_below(folder)}


def run_all(chosen: Sequence[str], kills: int, seed: int, out: Path, temporary: Path) -> dict[str, Account]:
    """Kill commands in turn, `kills` times in all, and return their accounts."""
    bench, accounts, results = Bench(out, temporary), dict[str, Account](), dict[str, object]()
    (out / "in").mkdir(parents=True, exist_ok=True)
    prepare(out / "in", lambda command: bench.run(command, out / "in" / "prepare"))
    for name in chosen:
        shutil.rmtree(undisturbed(out, name), ignore_errors=True)
        accounts[name] = Account(bench.run(CASES[name].command, undisturbed(out, name)))
        results[name] = CASES[name].result(undisturbed(out, name))
        console.print(f"{name}: {accounts[name].seconds:.0f} s undisturbed", highlight=False)
    for number, name in enumerate(cycle(chosen)):
        left = kills - sum(account.kills for account in accounts.values())
        if not left:
            break
        turn, account = number // len(chosen), accounts[name]
        draws = random.Random(f"{seed} {name} {turn}")
        episode = Episode(CASES[name], bench, account, draws)
        for problem in episode.run(min(draws.randint(1, MOST_KILLS), left), undisturbed(out, name), results[name]):
            repeat = f"python -m tests.long.kills --kills {kills} --only '{name}' --seed {seed} --out {out}"
            account.problems.append(f"episode {turn}: {problem}   ({repeat})")
            console.print(f"{name}: {account.problems[-1]}", markup=False, highlight=False)
    return accounts


def undisturbed(out: Path, name: str) -> Path:
    """Return the folder of the undisturbed run of a command."""
    return out / name.replace(" ", "_")


def table(accounts: dict[str, Account]) -> Table:
    """Make a table of all accounts."""
    rows = Table("command", "undisturbed, s", "kills", "resumed", "ends", "equal", "redone", "semaphores", "problems")
    for name, one in accounts.items():
        counts = one.kills, one.resumed, one.episodes, one.equal
        ends = f"{one.redone:.0%}", str(one.semaphores), str(len(one.problems))
        rows.add_row(name, f"{one.seconds:.0f}", *map(str, counts), *ends)
    return rows


def main(
    out: Annotated[Path, typer.Option(help="Folder of all files, and of kills.json.")],
    kills: Annotated[int, typer.Option(min=1, help="Number of kills in all.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the instants and the signals.")] = 0,
    only: Annotated[str | None, typer.Option(help=f"Commands separated by commas, of: {', '.join(CASES)}.")] = None,
) -> None:
    """Kill commands at random instants, and compare their results with those of undisturbed runs."""
    chosen = [name.strip() for name in only.split(",")] if only else list(CASES)
    if unknown := [name for name in chosen if name not in CASES]:
        raise typer.BadParameter(f"{unknown[0]!r}: there are {', '.join(CASES)}")
    with tempfile.TemporaryDirectory(prefix="hl", dir="/tmp") as temporary:
        accounts = run_all(chosen, kills, seed, out.absolute(), Path(temporary))
    values = {name: {**asdict(account), "redone": account.redone} for name, account in accounts.items()}
    (out / "kills.json").write_text(json.dumps({"seed": seed, "commands": values}, indent=2) + "\n")
    console.print(table(accounts))
    raise typer.Exit(any(account.problems for account in accounts.values()))


if __name__ == "__main__":
    typer.run(main)
