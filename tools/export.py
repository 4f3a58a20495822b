"""`heal export`: write an alliance as a run folder of HEAL (config.yaml and a checkpoint), or as graphs for other runtimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from torch import Tensor

from heal.alliance import Alliance, load_alliance
from heal.atomic_write import replacing, write_text
from heal.collab_model import CollabModel
from heal.config import ConfigError
from heal.opencood.blocks import Plain
from heal.opencood.config import Networks, write_config
from heal.opencood.late import write_detectors
from heal.opencood.one_type import one_type_state, write_one_type
from heal.opencood.run import export_state
from heal.opencood.weights import State
from heal.storage.compressors import require_compressor
from heal.tools.export_graphs import Format, export_graphs
from heal.tools.import_runs import new_names, parse_renames, require_known
from heal.tools.shared.arguments import OnlyTypesArg, RenameArg
from heal.tools.shared.type_argument import split_names

console = Console()

AlliancesArg = Annotated[
    list[Path], typer.Argument(metavar="ALLIANCE", help="Alliance folder; several only if they are single-agent detectors.")
]
OutArg = Annotated[Path, typer.Option(help="Folder to write.")]
ImageArg = Annotated[tuple[int, int], typer.Option(help="Height and width of the data set's images in pixels, for HEAL's config.")]
RatioArg = Annotated[int | None, typer.Option("--compressor", help="Ratio of a compressor to write too. Default: none.")]
ProgramArg = Annotated[
    bool,
    typer.Option(
        "--program", help="Write exported programs for torch.export.load instead; each is run and compared with its network."
    ),
]
OnnxArg = Annotated[
    bool,
    typer.Option("--onnx", help="Write ONNX graphs instead; each is run and compared with its network. Needs the extra [onnx]."),
]
OneTypeArg = Annotated[
    bool, typer.Option("--one-type", help="Write HEAL's network without named types: DiscoNet with one type of PointPillars, m1.")
]


def export(
    alliances: AlliancesArg,
    out: OutArg,
    types: OnlyTypesArg = None,
    rename: RenameArg = None,
    image_px: ImageArg = (600, 800),
    compressor: RatioArg = None,
    one_type: OneTypeArg = False,
    program: ProgramArg = False,
    onnx: OnnxArg = False,
) -> None:
    """Export an alliance for HEAL, or as graphs for deployment.

    For HEAL, the result is a run folder with the merged model. HEAL's agent types are named m1, m2 and so on; rename others with
    --rename. You have to fill in the data paths and training settings in config.yaml. Several single-agent detectors become one
    run for late fusion.

    \b
    heal export runs/alliance --out runs/for-heal
    heal export runs/alliance --types m1,van --rename van=m2 --image-px 1080 1920 --out runs/for-heal
    heal export runs/alliance --types m1 --compressor 8 --out runs/for-heal
    heal export runs/alliance --onnx --out runs/onnx
    heal export runs/detectors/m1 runs/detectors/m2 --out runs/late-for-heal
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    opened, single = _open(alliances)
    chosen = split_names(types) if types else [name for each in opened for name in each.agent_names]
    renamed = parse_renames(rename or [])
    if program or onnx:
        _require_alone(program and onnx, renamed, len(opened) > 1, compressor is not None, one_type)
        _export_graphs(opened[0], chosen, out, "onnx" if onnx else "program")
        return
    require_known(renamed, chosen)
    names = new_names(chosen, renamed)
    if single and compressor is None and not one_type:
        export_detectors(opened, names, out, image_px)
    else:
        export_alliance(opened[0], names, out, image_px, compressor, one_type)
    console.print(f"{out}: config.yaml and net_epoch1.pth with {', '.join(names.values())}")


def _require_alone(*others: object) -> None:
    """Raise ConfigError if any of the options is given that graphs do not have."""
    if any(others):
        raise ConfigError(
            "--program, --onnx, --rename, --compressor, --one-type and several alliances do not go together; use one of them"
        )


def _open(paths: Sequence[Path]) -> tuple[list[Alliance], bool]:
    """Open alliances; return them, and whether they are single-agent detectors. ConfigError for several others."""
    opened = [load_alliance(path) for path in paths]
    single = all(each.card.config.pyramid.single_agent for each in opened)
    if len(opened) > 1 and not single:
        raise ConfigError("expected one alliance, or single-agent detectors alone; other alliances are exported one by one")
    return opened, single


def _export_graphs(alliance: Alliance, names: list[str], out: Path, form: Format) -> None:
    for card in export_graphs(alliance, names, out, form):
        console.print(f"{card.file}: {card.says}; largest deviation {card.deviation:.1e}", highlight=False, soft_wrap=True)
    console.print(f"{out}: graphs.json describes the inputs and outputs")


def export_alliance(
    alliance: Alliance,
    names: dict[str, str],
    out: Path,
    image_px: tuple[int, int] = (600, 800),
    ratio: int | None = None,
    one_type: bool = False,
) -> None:
    """Write the base and agent types as a HEAL run folder.

    Args:
        alliance: where the networks are from.
        names: name of each agent type in the alliance -> its name in HEAL.
        out: folder to write.
        image_px: height and width of the data set's images.
        ratio: of a compressor to write too; None for none.
        one_type: whether to write HEAL's network without named types.

    Raises:
        AllianceError: there is no compressor of this ratio.
        ConfigError: HEAL has no setting for a part of the networks, or `out` holds a run.
    """
    compressor = None if ratio is None else require_compressor(alliance.compressors, ratio).network
    model = CollabModel(alliance.base, {new: alliance.agent(old) for old, new in names.items()}, compressor)
    agents = {new: alliance.agent_card(old).config for old, new in names.items()}
    networks = Networks(base=alliance.card.config, agents=agents, compressor=None if compressor is None else compressor.config)
    if one_type:
        _write_run(out, write_one_type(networks, image_px), one_type_state(export_state(model)))
    else:
        _write_run(out, write_config(networks, image_px), export_state(model))


def export_detectors(alliances: Sequence[Alliance], names: Mapping[str, str], out: Path, image_px: tuple[int, int]) -> None:
    """Write single-agent detectors, each an alliance, as a HEAL run folder for late fusion; arguments as for `export_alliance`.

    Raises:
        ConfigError: as for `export_alliance`, or a name is that of no type, or of the types of two detectors.
    """
    owners = {old: [alliance for alliance in alliances if old in alliance.agent_names] for old in names}
    for old, found in owners.items():
        if len(found) != 1:
            raise ConfigError(
                f"expected one detector of the type {old}, got {', '.join(str(each.path) for each in found) or 'none'}"
            )
    homes = {old: found[0] for old, found in owners.items()}
    detectors, state = dict[str, Networks](), dict[str, Tensor]()
    for old, new in names.items():
        alliance = homes[old]
        detectors[new] = Networks(base=alliance.card.config, agents={new: alliance.agent_card(old).config})
        state |= export_state(CollabModel(alliance.base, {new: alliance.agent(old)}))
    _write_run(out, write_detectors(detectors, image_px), state)


def _write_run(out: Path, values: Plain, state: State) -> None:
    """Write a run folder of HEAL; ConfigError if it holds a run."""
    import yaml

    if (out / "config.yaml").exists():
        raise ConfigError(f"{out} holds a run; choose another --out")
    with replacing(out / "net_epoch1.pth") as temporary:
        torch.save(state, temporary)
    write_text(out / "config.yaml", yaml.safe_dump(values, sort_keys=False))
