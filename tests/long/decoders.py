"""The decoders of foreign bytes by their names: messages, data sets, links, settings and alliances."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from heal.agents.joining import Join
from heal.agents.network.spec import LinkSpec
from heal.agents.network.trace import Trace
from heal.agents.network.transit import Transmission
from heal.alliance import AgentCard, AllianceError, BaseCard, load_alliance
from heal.checkpoint_file import read_checkpoint
from heal.config import ConfigError, build_config, to_plain
from heal.datasets.noise import SensorNoise
from heal.errors import UserError
from heal.message.codec import Codec
from heal.message.header import UnreadMessage
from heal.message.message import Message, MessageError
from heal.opencood.wrappers import unwrap
from heal.safe_yaml import read_safely
from heal.storage.parts import hash_content
from heal.tools.archive.check import check_alliance, require_whole
from heal.tools.shared.paths import CONFIGS
from heal.tools.shared.setting_files import load_settings
from heal.tools.training.checkpoint import Checkpoint, TrainingProgress
from heal.training.config import TrainingConfig
from tests.agents.tiny_run import save_tiny_alliance
from tests.long.checkpoints import mutated_checkpoint, valid_checkpoints
from tests.long.data_decoders import DATA_DECODERS
from tests.long.decoder import Decoder, of_file, one_of
from tests.long.mutations import mutated_bytes, mutated_text
from tests.long.road_decoders import ROAD_DECODERS
from tests.long.sealed_messages import mutated_message, valid_messages


def _header(_: Path) -> Decoder:
    def decode(data: bytes) -> str:
        UnreadMessage.of(data)
        return "accepted"

    return Decoder(decode, MessageError, valid_messages(), mutated_message)


def _message(_: Path) -> Decoder:
    def decode(data: bytes) -> str:
        message = Message.from_bytes(data)
        assert all(part.dtype == np.float32 for part in (*message.maps, *message.scores))
        return "accepted"

    return Decoder(decode, MessageError, valid_messages(), mutated_message)


def _trace(folder: Path) -> Decoder:
    """A trace is read and used: by a message that crosses its rows, at times far from its beginning."""
    seeds = [
        b"time,delay,loss,rate\n0,20,0,8\n1.5,80,0.25,2\n2.5,10,0,\n",
        b"time,delay,loss,rate\n0,1,0,0.001\n0.000000001,1,0,0.001\n",
        b"time,delay,loss,rate\n0,1,0,5\n",
    ]

    def read(path: Path) -> None:
        trace = Trace.read(path)
        for start_ns in (0, 10**18, -5):
            assert trace.finish_ns(start_ns, 2_000_000) >= start_ns
            trace.at(start_ns)

    return of_file(folder, ".csv", read, UserError, seeds, mutated_text)


def _config(folder: Path) -> Decoder:
    """The settings of a training: a shipped file, one that is like it, and one with every key."""
    like = b"like: demo/base\ntraining: {epochs: 3, seed: 5, learning_rate: 1e-3, milestones: [1, 2]}\n"
    seeds = [(CONFIGS / "demo" / "base.yaml").read_bytes(), like, yaml.safe_dump(to_plain(TrainingConfig())).encode()]

    def read(path: Path) -> None:
        build_config(TrainingConfig, load_settings(path), str(path))

    return of_file(folder, ".yaml", read, UserError, seeds, mutated_text)


def _options(parse: Callable[[str], object], texts: Sequence[str]) -> Decoder:
    """The text of an option on a command line; an accepted one reads back to the same value."""

    def decode(data: bytes) -> str:
        found = parse(data.decode("utf-8", "surrogateescape"))
        assert parse(str(found)) == found
        return "accepted"

    return Decoder(decode, UserError, [text.encode() for text in texts], mutated_text)


def _codec(_: Path) -> Decoder:
    return _options(Codec.parse, ["float32", "int8,score:0.1,zstd", "float16,ae:8,budget:84000,zstd"])


def _noise(_: Path) -> Decoder:
    def decode(data: bytes) -> str:
        noise = SensorNoise.parse(data.decode("utf-8", "surrogateescape"))
        assert np.isfinite(noise.pose.draw(np.random.default_rng(0))).all()
        return "accepted"

    texts = ["none", "position:0.2,rotation:0.2,kind:laplace,clock:20", "position:1e3,clock_jitter:5,kind:gaussian"]
    return Decoder(decode, UserError, [text.encode() for text in texts], mutated_text)


def _join(_: Path) -> Decoder:
    def parse(text: str) -> object:
        return Join.parse(text)

    def decode(data: bytes) -> str:
        parse(data.decode("utf-8", "surrogateescape"))
        return "accepted"

    return Decoder(decode, UserError, [b"m2@40", b"m2@40:b,m3@7"], mutated_text)


def _link(_: Path) -> Decoder:
    """A link is parsed, written and used for the messages of two ticks."""
    texts = ["perfect", "dsrc,delay:40,jitter:9,spread:gamma,loss:0.1", "rate:6,queue:50,outage:20/2,packet_loss:0.01"]

    def decode(data: bytes) -> str:
        spec = LinkSpec.parse(data.decode("utf-8", "surrogateescape"))
        assert LinkSpec.parse(str(spec)) == spec
        if spec.trace is None:
            network = spec.network(1)
            for tick, start_ns in enumerate((0, 10**18)):
                network.send(tick, [Transmission(agent_id, 100_000, start_ns) for agent_id in ("a", "b")])
        return "accepted"

    return Decoder(decode, UserError, [text.encode() for text in texts], mutated_text)


def _cards(read: Callable[[Path], str], folder: Path) -> Decoder:
    """The records of an alliance, base.yaml and agent.yaml, beside their weights; half of those that are valid get a right hash."""
    path = save_tiny_alliance(folder / "alliance")
    parts = [(path / "base" / "base", BaseCard), (path / "m1" / "agent", AgentCard)]
    states = [load_file(part.with_suffix(".safetensors")) for part, _ in parts]

    def seal(place: int, data: bytes) -> bytes:
        return data if zlib.crc32(data) % 2 else _with_right_hash(parts[place][1], data, states[place])

    return one_of([part.with_suffix(".yaml") for part, _ in parts], partial(read, path), AllianceError, mutated_text, seal)


def _with_right_hash(card: type[Any], data: bytes, state: dict[str, Any]) -> bytes:
    """Return a record with the hash of its configuration and weights; a record that cannot be read as it is."""
    try:
        values = build_config(card, dict(read_safely(data)))
        return yaml.safe_dump(to_plain(replace(values, hash=hash_content(state, values.config)))).encode()
    except (UserError, yaml.YAMLError, TypeError, ValueError):
        return data


def _weights(folder: Path) -> Decoder:
    """The weights of an alliance, beside the records."""
    path = save_tiny_alliance(folder / "alliance")
    files = [path / "base" / "base.safetensors", path / "m1" / "agent.safetensors"]
    return one_of(files, partial(_open_all, path), AllianceError, mutated_bytes)


def _open_all(path: Path) -> str:
    """Open an alliance and load all of its types."""
    alliance = load_alliance(path)
    for name in alliance.agent_names:
        alliance.agent(name)
    return "accepted" if alliance.agent_names else "left out"


def _checkpoint(folder: Path) -> Decoder:
    """A checkpoint of another program, in which `heal import` looks for weights."""
    return of_file(folder, ".pth", lambda path: unwrap(read_checkpoint(path)), ConfigError, valid_checkpoints(), mutated_checkpoint)


def _resume(folder: Path) -> Decoder:
    """The checkpoint from which a training goes on."""
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    optimizer, scaler = torch.optim.AdamW(model.parameters()), torch.amp.GradScaler("cpu")
    scaler.scale(model(torch.ones(1, 2, 2, 2)).sum()).backward()
    scaler.step(optimizer)
    written = Checkpoint(folder / "checkpoint.pt", model, optimizer, scaler)
    written.save(TrainingProgress(7, 1.5, (1, 2)))

    def read(path: Path) -> None:
        replace(written, path=path).load()

    return of_file(folder, ".pt", read, ConfigError, [written.path.read_bytes()], mutated_checkpoint)


def _verify(path: Path) -> str:
    """Check an alliance as `heal alliance verify` does."""
    require_whole(path, check_alliance(path))
    return "accepted"


DECODERS: dict[str, Callable[[Path], Decoder]] = {
    "header": _header,
    "message": _message,
    **DATA_DECODERS,
    **ROAD_DECODERS,
    "trace": _trace,
    "checkpoint": _checkpoint,
    "resume": _resume,
    "config": _config,
    "codec": _codec,
    "link": _link,
    "noise": _noise,
    "join": _join,
    "alliance-cards": partial(_cards, _open_all),
    "alliance-verify": partial(_cards, _verify),
    "alliance-weights": _weights,
}
