"""`heal info`: describe this installation or an alliance."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

import heal
from heal.agent_model import known_encoders
from heal.agents.process import usable_cores
from heal.alliance import Alliance, TrainingRecord, open_base
from heal.config import kinds_of
from heal.storage.compressors import compressor_cards, load_compressors, weights_path
from heal.tools.profiling.parameters import parameters_of
from heal.tools.shared.scoring import evaluations_table
from heal.tools.terminal.tables import narrow_table

console = Console()


def info(
    alliance: Annotated[Path | None, typer.Argument(help="Alliance folder. Default: describe this installation.")] = None,
) -> None:
    """Describe an alliance, or this installation.

    \b
    heal info
    heal info configs/demo/alliance
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    if alliance is None:
        console.print(describe_installation())
        return
    opened = open_base(alliance)
    opened.leave_out_foreign(warn=False)  # the reasons stand below the table
    console.print(describe_alliance(opened))
    for name, reason in opened.foreign.items():
        console.print(f"{name} cannot be used: {reason}", markup=False, highlight=False, soft_wrap=True)
    for ratio, reason in load_compressors(alliance, opened.base_hash)[1].items():
        console.print(f"compressor ae{ratio} cannot be used: {reason}", markup=False, highlight=False, soft_wrap=True)
    if evaluations := evaluations_table(alliance):
        console.print()
        console.print(evaluations)


def describe_installation() -> Table:
    """Make a table of versions, devices, and installed optional engines."""
    table = Table(title=f"heal {heal.__version__}", show_header=False)
    table.add_row("python", platform.python_version())
    table.add_row("cpu", f"{usable_cores()} usable cores, torch uses {torch.get_num_threads()} threads")
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    table.add_row("gpu", ", ".join(devices) or "none found")
    for package in ("torch", "ray", "open3d", "timm", "spconv", "spconv_triton"):
        table.add_row(package, _version(package))
    table.add_row("encoders", ", ".join(kind for settings in known_encoders() for kind in kinds_of(settings)))
    return table


def describe_alliance(alliance: Alliance) -> Table:
    """Make a table of the base, every agent type and every compressor: parameters, size on disk, training record."""
    grid = alliance.grid
    title = f"{alliance.path}: {grid.length_x_m:g} x {grid.length_y_m:g} m, cells of {grid.cell_m:g} m, {grid.nx} x {grid.ny}"
    headings = ("part", "param-\neters", "kB", "hash", "trained on", "scenes", "epochs", "minutes")
    table = narrow_table(headings, title)
    base, record = alliance.base, alliance.card.training
    size = (alliance.path / "base" / "base.safetensors").stat().st_size
    _add_part(table, "base", base, size, alliance.base_hash, record)
    for name in sorted({*alliance.agent_names, *alliance.unaligned}):
        card = alliance.agent_card(name)
        size = (alliance.path / name / "agent.safetensors").stat().st_size
        _add_part(table, name, alliance.agent(name), size, card.hash, card.training)
        if card.unaligned:
            table.add_row(f"{name}: unaligned", f"its base is {card.base_hash[:12]}")
        if card.trust != 1:
            table.add_row(f"{name}: trust", f"{card.trust:g}")
    for name in alliance.foreign:
        table.add_row(name, "cannot be used")
    records = compressor_cards(alliance.path, alliance.base_hash)[0]
    for ratio, part in alliance.compressors.items():
        size = weights_path(alliance.path, ratio).stat().st_size
        _add_part(table, f"compressor ae{ratio}", part.network, size, part.hash, records[ratio].training)
    return table


def _add_part(table: Table, name: str, model: torch.nn.Module, size: int, content_hash: str, record: TrainingRecord) -> None:
    """Add the row of the base or of an agent type."""
    row = (f"{parameters_of(model):,}", f"{size / 1e3:.0f}", content_hash[:12], record.data, f"{record.scenes}", f"{record.epochs}")
    table.add_row(name, *row, f"{record.seconds / 60:.1f}")


def _version(package: str) -> str:
    """Return the version of an installed package, or that there is none."""
    if importlib.util.find_spec(package) is None:
        return "not installed"
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "installed, version unknown"
