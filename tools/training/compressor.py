"""`heal train compressor`: train a compressor of feature maps, with the base and all agent types of an alliance frozen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from heal.alliance import Alliance, load_alliance, require_base
from heal.config import ConfigError, apply_overrides, build_config, to_plain
from heal.device import choose_device
from heal.layers.compressor import Compressor
from heal.storage.compressors import FOLDER, save_compressor, weights_path
from heal.storage.parts import copy_part
from heal.tools.shared.arguments import CacheArg, DataArg, DeviceArg, IntensityScaleArg, OnDamageArg, OnlyTypesArg, ThreadsArg
from heal.tools.shared.paths import config_path
from heal.tools.shared.setting_files import load_settings
from heal.tools.shared.sources import ReadOptions
from heal.tools.shared.type_argument import require_types, split_names
from heal.tools.training.arguments import ConfigArg, RestartArg, SetArg, SplitArg, ValSplitArg
from heal.tools.training.job import TrainingJob, run_job
from heal.tools.training.settings import reading_of
from heal.tools.training.whole import held_folders, load_result, prepare, training_record, use_threads
from heal.training.config import TrainingConfig

console = Console()

AllianceArg = Annotated[Path, typer.Option(help="Alliance whose base and agent types the compressor is trained with.")]
OutArg = Annotated[Path, typer.Option(help="Alliance folder to which the compressor is added; may be ALLIANCE itself.")]
RatioArg = Annotated[int, typer.Option(min=1, help="Of the channels of a map, one in so many is sent.")]


def compressor(
    alliance: AllianceArg,
    data: DataArg,
    out: OutArg,
    ratio: RatioArg = 8,
    types: OnlyTypesArg = None,
    config: ConfigArg = "compressor.yaml",
    split: SplitArg = "train",
    val_split: ValSplitArg = None,
    overrides: SetArg = None,
    device: DeviceArg = "auto",
    threads: ThreadsArg = 0,
    cache: CacheArg = None,
    on_damage: OnDamageArg = "stop",
    intensity_scale: IntensityScaleArg = None,
    restart: RestartArg = False,
) -> None:
    """Train a compressor of feature maps, an autoencoder of channels. The base and its agent types do not change by a bit.

    The training uses whole scenes; the maps of all agents go through the compressor. Its part of the message is the codec ae:RATIO.
    Checkpoints and logs are written to the folder OUT-aeRATIO. A new OUT gets the base and the agent types too.

    \b
    heal train compressor --alliance runs/opv2v/alliance --data OPV2V --ratio 8 --out runs/opv2v/alliance
    heal train compressor --alliance configs/demo/alliance --types m1 --data runs/town --config demo/compressor.yaml --out runs/ae
    heal sweep codec --alliance runs/ae --towns 12 --ticks 4 --out runs/sweep-ae
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    use_threads(threads)
    opened, chosen = load_alliance(alliance), choose_device(device)
    require_base(out, opened.base_hash)
    names = split_names(types) if types else list(opened.agent_names)
    settings = compressor_settings(opened, names, ratio, config_path(config), overrides or [])
    reading = reading_of(settings, ReadOptions.of(on_damage, intensity_scale, cache))
    source = reading.open_and_show(data, split)
    run = out.with_name(f"{out.name}-ae{ratio}").absolute()
    job = TrainingJob(f"ae{ratio}", settings, data.absolute(), split, len(source), alliance.absolute(), run, reading)
    [job], summary = prepare([job], source, val_split, chosen, console)
    with held_folders([job], summary, restart, console):
        run_job(job, chosen, console)
        _add_compressor(job, opened, out)


def compressor_settings(
    alliance: Alliance, names: Sequence[str], ratio: int, path: Path, overrides: Sequence[str]
) -> TrainingConfig:
    """Return the settings of the training of a compressor: of the file, with the alliance's networks, then the command line.

    Args:
        alliance: whose networks are frozen.
        names: its agent types whose maps the compressor learns from.
        ratio: of the compressor.
        path: YAML file with loss, augmentation and schedule.
        overrides: `key=value` changes of settings.

    Raises:
        AllianceError: the alliance lacks a type.
        ConfigError: a setting is wrong, or would change the frozen networks.
        UserError: the ratio does not divide the channels of the maps.
    """
    require_types(names, alliance)
    agents = {name: alliance.agent_card(name).config for name in names}
    given = load_settings(path)
    given |= {
        "base": to_plain(alliance.card.config),
        "agents": {name: to_plain(agent) for name, agent in agents.items()},
        "training": {**given.get("training", {}), "frozen_base": True},
        "compressor_ratio": ratio,
    }
    settings = build_config(TrainingConfig, apply_overrides(given, list(overrides)), str(path))
    if settings.base != alliance.card.config or dict(settings.agents) != agents or settings.compressor_ratio != ratio:
        raise ConfigError(f"--set: base and agents of {alliance.path} are frozen; --types chooses agents, --ratio the compressor")
    if not settings.training.frozen_base or settings.training.range_m or settings.training.fix_encoder:
        raise ConfigError(
            f"{path}: training.range_m and training.fix_encoder are for `heal train agent`, and training.frozen_base stays true; a "
            "compressor learns on the base's range with everything else frozen"
        )
    return settings


def _add_compressor(job: TrainingJob, alliance: Alliance, out: Path) -> None:
    """Add a trained compressor to the alliance at `out`, after copying the base and its types if `out` has none."""
    if not (out / "base").exists():
        for name in (*alliance.agent_names, "base"):  # the base last: without it a repeated command copies the rest
            copy_part(alliance.path, out, name)
    result = load_result(job, console)
    network = result.model.compressor
    assert isinstance(network, Compressor)
    training = job.settings.training
    save_compressor(out, network, alliance.base_hash, training_record(job, result, alliance), training.half_weights)
    size_kb = weights_path(out, network.config.ratio).stat().st_size / 1e3
    sent, channels = network.config.sent_channels, network.config.channels
    text = (
        f"{out / FOLDER}: a compressor from {channels} to {sent} channels, {size_kb:.0f} kB; --codec float32,ae:{channels // sent}"
    )
    console.print(text, markup=False, highlight=False, soft_wrap=True)
