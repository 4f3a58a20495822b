"""Compressors of feature maps on disk, beside the base that they were trained with: one for each ratio, as the paper's curve has.

alliance/compressor/  ae8.safetensors  ae8.yaml    weights; configuration, training record, content hash, hash of the base
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from heal.config import config
from heal.layers.compressor import Compressor, CompressorConfig
from heal.layers.inference import for_inference
from heal.option_text import count_in
from heal.storage.parts import AllianceError, hash_content, load_network, read_card, save_part, state_to_store
from heal.storage.records import TrainingRecord

FOLDER = "compressor"


@config
class CompressorCard:
    """The record beside the weights of a compressor.

    Attributes:
        hash: content hash of configuration and weights.
        base_hash: hash of the base that the compressor was trained with.
        config: channels and ratio.
        training: the training that the weights come from.
    """

    hash: str
    base_hash: str
    config: CompressorConfig
    training: TrainingRecord = TrainingRecord()


@dataclass(frozen=True)
class StoredCompressor:
    """A compressor of an alliance, in eval mode.

    Attributes:
        hash: its content hash, by which a message names it.
        network: both sides of it.
    """

    hash: str
    network: Compressor

    def for_inference(self) -> StoredCompressor:
        """Return the compressor with a network for fast inference (`heal.layers.inference`)."""
        return replace(self, network=for_inference(self.network))


def save_compressor(path: Path, network: Compressor, base_hash: str, training: TrainingRecord, half: bool = False) -> str:
    """Write a compressor into the alliance at `path`, and return its content hash; `half` as in `heal.alliance.save_base`.

    A compressor of the same ratio is replaced.
    """
    state = state_to_store(network, half)
    content_hash = hash_content(state, network.config)
    card = CompressorCard(hash=content_hash, base_hash=base_hash, config=network.config, training=training)
    save_part(path / FOLDER, _stem(network.config.ratio), state, card)
    return content_hash


def compressor_cards(path: Path, base_hash: str) -> tuple[dict[int, CompressorCard], dict[int, str]]:
    """Read the records of all compressors in an alliance.

    Args:
        path: folder of the alliance.
        base_hash: hash of its base.

    Returns:
        The record of each compressor of this base by ratio, and for each other ratio the reason why it cannot be used.
    """
    cards, problems = dict[int, CompressorCard](), dict[int, str]()
    for ratio in _ratios(path):
        try:
            cards[ratio] = _read_card(path, ratio, base_hash)
        except AllianceError as error:  # noqa: PERF203 - a folder has a handful of compressors
            problems[ratio] = str(error)
    return cards, problems


def load_compressors(path: Path, base_hash: str) -> tuple[dict[int, StoredCompressor], dict[int, str]]:
    """Load all compressors of an alliance; arguments and result as of `compressor_cards`, with the networks."""
    cards, problems = compressor_cards(path, base_hash)
    loaded = {}
    for ratio, card in cards.items():
        try:
            network = load_network(partial(Compressor, card.config), card.config, weights_path(path, ratio), card.hash)
        except AllianceError as error:  # noqa: PERF203 - an alliance has a handful of compressors
            problems[ratio] = str(error)
        else:
            loaded[ratio] = StoredCompressor(card.hash, network)
    return loaded, problems


def require_compressor(compressors: Mapping[int, StoredCompressor], ratio: int) -> StoredCompressor:
    """Return the compressor of a ratio; AllianceError if there is none."""
    if ratio not in compressors:
        there = ", ".join(map(str, compressors)) or "none"
        raise AllianceError(
            f"the alliance has no compressor of ratio {ratio}; there are {there}; `heal train compressor` trains one"
        )
    return compressors[ratio]


def weights_path(path: Path, ratio: int) -> Path:
    """Return the file with the weights of a compressor in the alliance at `path`."""
    return path / FOLDER / f"{_stem(ratio)}.safetensors"


def _ratios(path: Path) -> list[int]:
    ratios = (count_in(file.stem.removeprefix("ae")) for file in (path / FOLDER).glob("ae*.yaml"))
    return sorted(ratio for ratio in ratios if ratio is not None)


def _stem(ratio: int) -> str:
    return f"ae{ratio}"


def _read_card(path: Path, ratio: int, base_hash: str) -> CompressorCard:
    """Read the record of a compressor; AllianceError if it cannot be used with the base."""
    file = path / FOLDER / f"{_stem(ratio)}.yaml"
    card: CompressorCard = read_card(CompressorCard, file)
    if card.base_hash != base_hash:
        raise AllianceError(
            f"{file}: it was trained with the base {card.base_hash[:12]}, but the base here is {base_hash[:12]}; "
            "put it beside its own base, or train one with this base"
        )
    if card.config.ratio != ratio:
        raise AllianceError(f"{file}: its record is of the ratio {card.config.ratio}; name the file after it")
    return card
