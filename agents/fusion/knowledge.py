"""What the fusion nodes of a run know before any message comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heal.agents.content.items import reads_points_alone, require_cloud_reader
from heal.agents.interfaces import AllianceLike, Encoder, KnowsMaps
from heal.agents.options import RunOptions
from heal.base_model import BaseModel
from heal.defence.statistics import MapStatistics
from heal.identity.allow_list import AllowedSenders
from heal.storage.compressors import StoredCompressor


@dataclass(frozen=True)
class NodeKnowledge:
    """What a fusion node knows before any message comes.

    Attributes:
        base: the network, in eval mode.
        base_hash: its content hash; messages for another base are rejected.
        options: of the run.
        trust: factor on the weight of maps by their agent type; requests name the types that come later. Types that are not named
            have the least of them.
        compressors: those whose maps the node can decode; messages with the map of another one are rejected.
        encoders: the networks of the agent types that read a joint cloud, for `split: points`.
        statistics: of the honest maps of agent types, for `defence: on`.
        allowed: the agents whose signed messages the node takes; None if nothing is signed in the run.
    """

    base: BaseModel
    base_hash: str
    options: RunOptions
    trust: Mapping[str, float] = field(default_factory=dict)
    compressors: tuple[StoredCompressor, ...] = ()
    encoders: Mapping[str, Encoder] = field(default_factory=dict)
    statistics: Mapping[str, MapStatistics] = field(default_factory=dict)
    allowed: AllowedSenders | None = None

    @classmethod
    def of(cls, alliance: AllianceLike, options: RunOptions, allowed: AllowedSenders | None = None) -> NodeKnowledge:
        """Return what an alliance says that a node of a run has to know.

        Raises:
            UserError: clouds are to be fused, and no agent type has a network that reads a joint cloud.
        """
        return cls(
            base=alliance.base,
            base_hash=alliance.base_hash,
            options=options,
            trust={name: alliance.trust_of(name) for name in alliance.agent_names},
            compressors=tuple(alliance.compressors.values()),
            encoders=_joint_encoders(alliance, options),
            statistics=_statistics(alliance, options),
            allowed=allowed,
        )


def _statistics(alliance: AllianceLike, options: RunOptions) -> dict[str, MapStatistics]:
    """Return the statistics of the agent types that have some; none where no check needs them."""
    if options.defence == "off" or not isinstance(alliance, KnowsMaps):
        return {}
    found = {name: alliance.statistics_of(name) for name in alliance.agent_names}
    return {name: statistics for name, statistics in found.items() if statistics is not None}


def _joint_encoders(alliance: AllianceLike, options: RunOptions) -> dict[str, Encoder]:
    """Return the networks that read the joint cloud of a run with `split: points`, by agent type; none under any other split."""
    if options.split != "points":
        return {}
    require_cloud_reader(options, alliance)
    encoders = {name: alliance.agent(name) for name in alliance.agent_names}
    return {name: encoder for name, encoder in encoders.items() if reads_points_alone(encoder.sensor)}
