"""`heal alliance`: add a type, record what honest maps are like, pack an alliance into one file, unpack it, and verify it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from heal.alliance import load_alliance
from heal.atomic_write import folder_made_whole
from heal.errors import UserError
from heal.tools.archive.adding import add_type
from heal.tools.archive.archive import extract, pack
from heal.tools.archive.check import PartCheck, check_alliance, check_parts, require_whole
from heal.tools.archive.recording import record_statistics, scenes_to_record
from heal.tools.shared.arguments import SourceArg
from heal.tools.shared.sources import TOWN
from heal.tools.shared.type_argument import base_type, split_names
from heal.tools.terminal.style import STYLE

EXAMPLES = """\b
heal alliance add runs/mine runs/theirs/m3
heal alliance statistics runs/mine --towns 30
heal alliance pack configs/demo/alliance --out runs/demo.zip
heal alliance verify runs/demo.zip
heal alliance unpack runs/demo.zip --out runs/theirs
"""
app = typer.Typer(
    help="Add a type to an alliance, record honest maps, pack it into one file, unpack it, and check it.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    **STYLE,
)
console = Console(soft_wrap=True)

FolderArg = Annotated[Path, typer.Argument(metavar="FOLDER", help="Alliance folder.")]
FileArg = Annotated[Path, typer.Argument(metavar="FILE", help="Archive that `heal alliance pack` has written.")]
EitherArg = Annotated[Path, typer.Argument(metavar="FOLDER|FILE", help="Alliance folder, or an archive.")]
IntoArg = Annotated[Path, typer.Argument(metavar="FOLDER", help="Alliance folder to which the type is added.")]
TypeFolderArg = Annotated[Path, typer.Argument(metavar="TYPE", help="Folder of a type, such as that of another alliance.")]
NameArg = Annotated[str | None, typer.Option("--as", help="Name of the type in the alliance. Default: that of its folder.")]
UnalignedArg = Annotated[
    bool,
    typer.Option(
        "--unaligned",
        help="Add a type that was trained beside another base, to measure what its alignment would bring. It is marked, and "
        "takes part only where a command names it.",
    ),
]
IntoStatisticsArg = Annotated[Path, typer.Argument(metavar="FOLDER", help="Alliance folder; its agent.yaml files are changed.")]
RecordedTypesArg = Annotated[str | None, typer.Option("--types", help="Names of types, separated by commas. Default: all.")]
PresetsArg = Annotated[str, typer.Option("--preset", help="Kinds of town, separated by commas, in turn.")]
TownsArg = Annotated[int, typer.Option(min=1, help="Number of towns of one instant each, or of scenes of a folder.")]
SeedArg = Annotated[int, typer.Option(min=0, help="Seed of the first town.")]
FileOutArg = Annotated[Path, typer.Option("--out", help="ZIP file to write.")]
FolderOutArg = Annotated[Path, typer.Option("--out", help="Folder to make; it may exist if it is empty.")]


@app.command("add")
def add_command(folder: IntoArg, agent_type: TypeFolderArg, name: NameArg = None, unaligned: UnalignedArg = False) -> None:
    """Add an agent type to an alliance: one that is aligned to its base, or any other with --unaligned.

    \b
    heal alliance add runs/mine runs/theirs/m3
    heal alliance add runs/mine runs/single/alliance/m3 --as m3_single --unaligned
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    console.print(add_type(folder, agent_type, name or agent_type.resolve().name, unaligned), markup=False, highlight=False)


@app.command("statistics")
def statistics_command(
    folder: IntoStatisticsArg,
    types: RecordedTypesArg = None,
    source: SourceArg = TOWN,
    preset: PresetsArg = "demo,crossing",
    towns: TownsArg = 40,
    seed: SeedArg = 5000,
) -> None:
    """Record what the honest maps of agent types are like, so that a defended run tells lies from them.

    Take scenes that the types were not evaluated on, of all kinds in which they will drive.

    \b
    heal alliance statistics runs/mine --towns 30
    heal alliance statistics runs/mine --types m3 --source OPV2V_ROOT
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    alliance = load_alliance(folder).for_inference()
    scenes = scenes_to_record(source, preset.split(","), towns, seed)
    names = alliance.agent_names if types is None else split_names(types)
    for name, found in record_statistics(alliance, names, base_type(alliance), scenes, console).items():
        console.print(f"{name}: statistics of {found.maps} maps", markup=False, highlight=False)


@app.command("pack")
def pack_command(folder: FolderArg, out: FileOutArg) -> None:
    """Pack an alliance into a ZIP file, with a manifest of the SHA-256 of every file.

    The alliance must be complete and undamaged. Equal alliances give equal files.

    \b
    heal alliance pack runs/mine --out runs/mine.zip
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    require_whole(folder, check_parts(folder))
    manifest = pack(folder, out)
    console.print(f"{out}: {len(manifest.files)} files, {manifest.size_bytes / 1e6:.1f} MB", markup=False, highlight=False)


@app.command("unpack")
def unpack_command(file: FileArg, out: FolderOutArg) -> None:
    """Unpack an archive into a new folder, after all checks of `verify`.

    \b
    heal alliance unpack runs/mine.zip --out runs/theirs
    heal info runs/theirs
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder; choose another --out")
    with folder_made_whole(out) as temporary:
        extract(file, temporary)
        require_whole(file, _named_after(file, temporary, check_alliance(temporary)))
    console.print(f"{out}: unpacked and whole", markup=False, highlight=False)


@app.command("verify")
def verify_command(alliance: EitherArg) -> None:
    """Check that an alliance folder or an archive is whole.

    The files must match the manifest, if there is one; base and agent types must have the content hashes of their records; every
    type must be aligned to the base. The last line is an error if any check fails.

    \b
    heal alliance verify configs/demo/alliance
    heal alliance verify runs/mine.zip
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    with _as_folder(alliance) as folder:
        checks = _named_after(alliance, folder, check_alliance(folder))
    for check in checks:
        _print_check(check)
    require_whole(alliance, checks)


def _named_after(archive: Path, folder: Path, checks: Sequence[PartCheck]) -> tuple[PartCheck, ...]:
    """Name the archive where the checks of its temporary folder name that folder."""
    return tuple(replace(check, problem=check.problem.replace(str(folder), str(archive))) for check in checks)


def _print_check(check: PartCheck) -> None:
    console.print(f"{check.name:<10}{'wrong: ' + check.problem if check.problem else check.says}", markup=False, highlight=False)


@contextmanager
def _as_folder(alliance: Path) -> Iterator[Path]:
    """Give the folder of an alliance: itself, or an archive extracted for as long as the context lasts."""
    if not alliance.is_file():
        yield alliance
        return
    with tempfile.TemporaryDirectory() as temporary:
        extract(alliance, Path(temporary) / alliance.name)
        yield Path(temporary) / alliance.name
