"""Fuzz the decoders of foreign bytes for as long as wanted: `python -m tests.long.fuzz all --inputs 1000000`."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from tests.long.campaign import MAKERS, Tally, fuzz, limited, workplace

console = Console(width=150, highlight=False)
Names = Annotated[list[str], typer.Argument(help=f"all, or some of {', '.join(MAKERS)}.")]


def main(
    names: Names,
    inputs: Annotated[int, typer.Option(min=1, help="Inputs of each decoder.")] = 10_000,
    seed: Annotated[str, typer.Option(help="Repeats a run; another one is drawn each time by default.")] = "",
    processes: Annotated[int, typer.Option(min=1, help="Child processes.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for inputs that break a rule.")] = Path("runs/fuzz"),
    replay: Annotated[Path | None, typer.Option(help="Take this saved input alone, with the one decoder that is named.")] = None,
) -> None:
    """Take damaged inputs, and report what became of them; the exit status is 1 if any breaks a rule."""
    chosen = list(MAKERS) if names == ["all"] else names
    unknown = [name for name in chosen if name not in MAKERS]
    if unknown:
        raise typer.BadParameter(f"no decoder {unknown[0]!r}; there are {', '.join(MAKERS)}")
    if replay is not None:
        with workplace() as folder:
            console.print(f"{chosen[0]}: {limited(chosen[0], folder).take(replay.read_bytes())}")
        return
    torch.set_num_threads(1)  # a copy of this process would miss the others
    seed = seed or secrets.token_hex(4)
    console.print(f"seed {seed}")
    if sum([_run(name, seed, inputs, processes, out) for name in chosen]):
        raise typer.Exit(1)


def _run(name: str, seed: str, inputs: int, processes: int, out: Path) -> int:
    """Fuzz one decoder, print the result, save the inputs that break a rule, and return their number."""
    began = time.monotonic()
    found = fuzz(name, f"{seed}/{name}", inputs, processes)
    console.print(_line(name, found, time.monotonic() - began))
    if found.failures:
        out.mkdir(parents=True, exist_ok=True)
        with workplace() as folder:
            decoder = MAKERS[name](folder)
        for failure in found.failures:
            path = out / f"{name}-{seed}-{failure.index}"
            path.write_bytes(decoder.input(f"{seed}/{name}", failure.index))
            console.print(f"  {failure.problem}\n    python -m tests.long.fuzz {name} --replay {path}", markup=False)
    return len(found.failures)


def _line(name: str, found: Tally, took_s: float) -> str:
    """Return one line on a decoder's inputs."""
    taken = ", ".join(f"{how} {count}" for how, count in found.taken.most_common())
    rate = found.inputs / took_s
    return (
        f"{name}: {found.inputs} inputs ({rate:.0f} a second): {taken}; {len(found.failures)} break a rule; slowest "
        f"{found.slowest_s:.3f} s, largest growth {found.growth_bytes / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    typer.run(main)
