"""`heal bench`: time and memory of every stage, beside a yardstick and a plain form measured in the same run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from heal.agents.process import usable_cores
from heal.atomic_write import replacing, write_text
from heal.device import choose_device
from heal.errors import UserError
from heal.tools.benches.clock import bench_clock
from heal.tools.benches.door import bench_door
from heal.tools.benches.frame import bench_frame
from heal.tools.benches.gpu import bench_gpu
from heal.tools.benches.machine import bench_machine
from heal.tools.benches.measure import BenchRow
from heal.tools.benches.methods import bench_methods
from heal.tools.benches.poses import bench_poses
from heal.tools.benches.post import bench_ap, bench_post
from heal.tools.benches.read import bench_read
from heal.tools.benches.runtime import bench_runtime
from heal.tools.benches.scale import bench_scale
from heal.tools.benches.setup import BenchSetup, torch_threads
from heal.tools.benches.sign import bench_sign
from heal.tools.benches.stages import bench_encode, bench_fuse, bench_voxelize
from heal.tools.benches.train import bench_train
from heal.tools.shared.output import try_folder
from heal.tools.shared.paths import CONFIGS

BENCHES: dict[str, Callable[[BenchSetup], list[BenchRow]]] = {
    "read": bench_read,
    "voxelize": bench_voxelize,
    "encode": bench_encode,
    "fuse": lambda setup: [*bench_fuse(setup), *bench_poses(setup)],
    "post": bench_post,
    "ap": bench_ap,
    "frame": bench_frame,
    "methods": bench_methods,
    "train": bench_train,
    "gpu": bench_gpu,
    "sign": bench_sign,
    "runtime": lambda setup: bench_runtime(setup.alliance),
    "scale": lambda setup: bench_scale(setup.alliance),
    "clock": lambda setup: bench_clock(setup.alliance),
    "door": lambda setup: bench_door(),
}
console = Console()

NamesArg = Annotated[list[str], typer.Argument(help=f"Benches to run: {', '.join(BENCHES)}.")]
AllianceArg = Annotated[Path, typer.Option(help="Alliance folder, for gpu, sign, runtime, scale and clock.")]
DataArg = Annotated[Path | None, typer.Option(help="Folder of DAIR-V2X-C, for read.")]
ScenesArg = Annotated[Path | None, typer.Option(help="Data set folder in OPV2V's layout, instead of the built-in town.")]
DeviceArg = Annotated[
    str, typer.Option(help="Device for encode, fuse, frame, methods, train and gpu: cpu, cuda, or auto: a GPU if there is one.")
]
ThreadsArg = Annotated[int, typer.Option(min=0, help="Number of torch threads; 0: one for each usable core.")]
RepeatsArg = Annotated[int, typer.Option(min=1, help="Number of measured rounds.")]
NoPlainArg = Annotated[bool, typer.Option("--no-plain", help="Do not measure the plain forms.")]
SmallArg = Annotated[
    bool, typer.Option("--small", help="For gpu: the networks of --alliance and small scenes, to try the bench itself.")
]
JsonArg = Annotated[Path | None, typer.Option("--json", help="Also write the rows to this file.")]
MarkdownArg = Annotated[Path | None, typer.Option(help="Also write the table to this file.")]
ProfileArg = Annotated[Path | None, typer.Option(help="Write a trace of all calls to this file, for chrome://tracing or Perfetto.")]


def bench(
    names: NamesArg,
    alliance: AllianceArg = CONFIGS / "demo" / "alliance",
    data: DataArg = None,
    scenes: ScenesArg = None,
    device: DeviceArg = "auto",
    threads: ThreadsArg = 0,
    repeats: RepeatsArg = 7,
    no_plain: NoPlainArg = False,
    small: SmallArg = False,
    json_path: JsonArg = None,
    markdown: MarkdownArg = None,
    profile: ProfileArg = None,
) -> None:
    """Measure the stages on this machine, which should be idle.

    Times are valid for this machine only; ratios are comparable between machines. The networks have the paper's size and random
    weights; the scenes are those of the built-in town. Each time is compared with the yardstick, a dense convolution measured in
    the same run, and with the plain form of the stage, a usual implementation with the same results.

    \b
    heal bench frame
    heal bench read voxelize encode fuse post ap train frame --data DAIR_ROOT --json runs/bench.json
    heal bench frame train --device cuda
    heal bench gpu --device cuda --markdown runs/gpu.md
    heal bench sign runtime scale clock door
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        raise UserError(f"unknown bench {unknown[0]!r}; expected one of {', '.join(BENCHES)}")
    _try_folders_of(json_path, markdown, profile)
    setup = BenchSetup(alliance, data, scenes, choose_device(device), repeats, not no_plain, small)
    with torch_threads(threads or usable_cores()):
        with _traced(profile):
            rows = [row for name in names for row in BENCHES[name](setup)]
        if set(names) - {"sign", "runtime", "scale", "clock", "door"} and not small:
            rows = [*bench_machine(setup.device), *rows]
    console.print(bench_table(rows))
    _write(rows, json_path, markdown)


def _write(rows: Sequence[BenchRow], json_path: Path | None, markdown: Path | None) -> None:
    """Write the rows to the files that are given."""
    if json_path is not None:
        write_text(json_path, json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    if markdown is not None:
        write_text(markdown, markdown_table(rows))


def _try_folders_of(*paths: Path | None) -> None:
    """Try to write in the folders of the files that are to be written; None stands for no file."""
    for path in paths:
        if path is not None:
            try_folder(path.parent)


@contextmanager
def _traced(path: Path | None) -> Iterator[None]:
    """Record torch's operations and write their trace to a file; None records nothing."""
    if path is None:
        yield
        return
    with torch.profiler.profile() as recorded:
        yield
    with replacing(path) as temporary:
        recorded.export_chrome_trace(str(temporary))


def bench_table(rows: Sequence[BenchRow]) -> Table:
    """Make a table with one line for each row, without the columns that are empty in all rows."""
    titles, lines = _lines(rows)
    table = Table(title="measured on this machine")
    for title in titles:
        table.add_column(title, no_wrap=title is not titles[-1])
    for line in lines:
        table.add_row(*line)
    return table


def markdown_table(rows: Sequence[BenchRow]) -> str:
    """Make the table of `bench_table` in Markdown."""
    titles, lines = _lines(rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in (titles, ["---"] * len(titles), *lines))


def _lines(rows: Sequence[BenchRow]) -> tuple[list[str], list[list[str]]]:
    """Return the titles of the columns that are not empty, and for each row its texts in these columns."""
    titles = ("", "median", "spread", "GFLOP", "of yardstick", "over plain", "threads", "note")
    lines = [(row.name, *_numbers(row), f"{row.threads}, {row.dtype}", row.note) for row in rows]
    used = [i for i in range(len(titles)) if any(line[i] for line in lines)]
    return [titles[i] for i in used], [[line[i] for i in used] for line in lines]


def _numbers(row: BenchRow) -> tuple[str, ...]:
    """Format the numbers of a row, from the measured time or value to the speed-up; a missing number is ""."""
    measured = f"{row.value:.4g} {row.unit}" if row.seconds is None else f"{row.seconds * 1e3:.4g} ms"
    formats = ((row.spread, "{:.0%}"), (row.flops and row.flops / 1e9, "{:.3g}"), (row.yardstick_fraction, "{:.0%}"))
    rest = tuple("" if number is None else text.format(number) for number, text in formats)
    return measured, *rest, "" if row.speedup_over_plain is None else f"{row.speedup_over_plain:.1f}x"
