"""The bytes of an agent's message, as the agent's own step writes it, by split and format of the values."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from heal.agents.agent import Agent, AgentRequest, AgentSetup
from heal.agents.options import RunOptions
from heal.message.codec import FLOAT32, Codec
from heal.tools.profiling.networks import Networks
from heal.types import SceneSource, Split

# Formats whose bytes do not depend on the values of the maps: the sizes are valid for any weights.
FORMATS: tuple[tuple[Split, Codec], ...] = (
    ("feature", FLOAT32),
    ("feature", Codec("float16")),
    ("feature", Codec("int8")),
    ("feature", Codec("int4")),
    ("pyramid", FLOAT32),
    ("pyramid", Codec("int8")),
)


@dataclass(frozen=True)
class MessageSize:
    """The length of a message.

    Attributes:
        name: agent type of the sender.
        split: the side of the link on which the trunk runs: the receiver's ("feature") or the sender's ("pyramid").
        codec: how the maps are written.
        size_bytes: header and payload.
    """

    name: str
    split: Split
    codec: str
    size_bytes: int


def message_sizes(networks: Networks, name: str, source: SceneSource) -> tuple[MessageSize, ...]:
    """Return the lengths of the message of an agent type in every format, for the ego of a source's first scene."""
    model, base, agent_id = networks.model.agent(name), networks.model.base, source.outline(0).ego_id
    frame = source.agent_frame(0, agent_id, model.sensor)
    found = []
    with torch.no_grad():
        features = model(model.prepare([frame])).contiguous()
        for split, codec in FORMATS:
            options = RunOptions(split=split)
            # The hash stands for that of the base, which has the same length.
            setup = AgentSetup(name, model, base.fusion, networks.record.hash, base.config.grid, source, options)
            message, _ = Agent(agent_id, setup).pack(AgentRequest(0, agent_id, codec), frame, features)
            found.append(MessageSize(name, split, str(codec), len(message)))
    return tuple(found)
