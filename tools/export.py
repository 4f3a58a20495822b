"""`heal export`: an alliance becomes a run folder of HEAL, that is config.yaml and a checkpoint, or graphs for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from heal.alliance import Alliance, load_alliance
from heal.collab_model import CollabModel
from heal.config import ConfigError
from heal.opencood.config import Networks, write_config
from heal.opencood.run import export_state
from heal.tools.export_graphs import Format, export_graphs
from heal.tools.import_runs import parse_renames

console = Console()

AllianceArg = Annotated[Path, typer.Argument(help="Alliance folder.")]
OutArg = Annotated[Path, typer.Option(help="Folder to make.")]
TypesArg = Annotated[str | None, typer.Option(help="Only these agent types, such as m1,m2.")]
RenameArg = Annotated[list[str] | None, typer.Option(help="old=new name of an agent type; may be repeated.")]
ImageArg = Annotated[tuple[int, int], typer.Option(help="Height and width of the data set's images, which HEAL has to know.")]
ProgramArg = Annotated[bool, typer.Option("--program", help="Write graphs for torch.export.load instead, checked.")]
OnnxArg = Annotated[bool, typer.Option("--onnx", help="Write ONNX graphs instead, checked; needs the extra [onnx].")]


def export(
    alliance: AllianceArg,
    out: OutArg,
    types: TypesArg = None,
    rename: RenameArg = None,
    image_px: ImageArg = (600, 800),
    program: ProgramArg = False,
    onnx: OnnxArg = False,
) -> None:
    """Turn an alliance into a HEAL run folder that holds the merged model, or into graphs for deployment.

    HEAL calls its agent types m1, m2 and so on. Paths of data and the settings of training are left for you to fill in.

    \b
    heal export runs/alliance --out runs/for-heal
    heal export runs/alliance --types m1,van --rename van=m2 --image-px 1080 1920 --out runs/for-heal
    heal export runs/alliance --onnx --out runs/onnx
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    opened = load_alliance(alliance)
    chosen = types.split(",") if types else list(opened.agent_names)
    renamed = parse_renames(rename or [])
    if program or onnx:
        if (program and onnx) or renamed:
            raise ConfigError("--program and --onnx do not go together, nor with --rename")
        _export_graphs(opened, chosen, out, "onnx" if onnx else "program")
        return
    export_alliance(opened, {name: renamed.get(name, name) for name in chosen}, out, image_px)
    console.print(f"{out}: config.yaml and net_epoch1.pth with {', '.join(renamed.get(name, name) for name in chosen)}")


def _export_graphs(alliance: Alliance, names: list[str], out: Path, form: Format) -> None:
    for card in export_graphs(alliance, names, out, form):
        console.print(f"{card.file}: {card.says}; off by {card.deviation:.1e} at most", highlight=False, soft_wrap=True)
    console.print(f"{out}: graphs.json says what goes in and out")


def export_alliance(alliance: Alliance, names: dict[str, str], out: Path, image_px: tuple[int, int] = (600, 800)) -> None:
    """Write agent types under new names, with the base, into the folder `out`.

    Raises:
        ConfigError: HEAL has no words for a part of them, or `out` holds a run.
    """
    import yaml

    if (out / "config.yaml").exists():
        raise ConfigError(f"{out} holds a run; choose another --out")
    model = CollabModel(alliance.base, {new: alliance.agent(old) for old, new in names.items()})
    networks = Networks(base=alliance.card.config, agents={new: alliance.agent_card(old).config for old, new in names.items()})
    values = write_config(networks, image_px)
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    torch.save(export_state(model), out / "net_epoch1.pth")
