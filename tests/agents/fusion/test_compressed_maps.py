"""Compressed maps in a run: fewer channels cross the link, the fusion node decodes them, and rejects those of other compressors."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from heal.agents.agent import AgentHost, AgentRequest, AgentSetup
from heal.agents.fusion.knowledge import NodeKnowledge
from heal.agents.fusion.node import FusionNode
from heal.agents.local_runtime import LocalRuntime
from heal.agents.options import RunOptions
from heal.agents.records import Arrival, TickResult
from heal.alliance import AllianceError
from heal.message.codec import FLOAT32, Codec
from heal.message.message import Message
from tests.agents.compressing import CompressingAlliance
from tests.agents.fusion.tiny_node import request_at
from tests.agents.tiny_run import TinyAlliance, TinySource, by_id

SOURCE, TYPES = TinySource(), by_id({"ego": "m1", "b": "m2", "c": "m1", "d": "m2"})
ALLIANCE = CompressingAlliance(2, 4)
QUARTER = RunOptions(codec=Codec.parse("float32,ae:4"))


def _run(alliance: TinyAlliance, options: RunOptions) -> list[TickResult]:
    with LocalRuntime(alliance, SOURCE, TYPES, options=options) as runtime:
        return list(runtime.run(range(2)))


def _sent(codec: Codec, agent_id: str = "b") -> bytes:
    setup = AgentSetup.of(ALLIANCE, "m1", SOURCE, replace(QUARTER, codec=codec))
    return AgentHost(setup).step([AgentRequest(0, agent_id, codec)])[0][0]


def test_a_quarter_of_the_channels_crosses_the_link_and_the_decoder_s_map_is_fused() -> None:
    plain, compressed = Message.from_bytes(_sent(FLOAT32)), Message.from_bytes(_sent(QUARTER.codec))
    network = ALLIANCE.compressors[4].network
    features = torch.from_numpy(plain.maps[0].copy())[None]
    assert (plain.maps[0].shape, compressed.maps[0].shape) == ((8, 32, 32), (2, 32, 32))
    assert compressed.compressor == ALLIANCE.compressors[4].hash and not plain.compressor
    torch.testing.assert_close(torch.from_numpy(compressed.maps[0].copy())[None], network.encoder(features))
    # The node fuses what a sender of the decoded map would have sent.
    decoded = replace(plain, maps=(network(features)[0].numpy(),))
    outcomes = [
        FusionNode(NodeKnowledge.of(ALLIANCE, QUARTER)).step(
            request_at(0), [Arrival("ego", _sent(FLOAT32, "ego"), 0), Arrival("b", message.to_bytes(), 0)]
        )
        for message in (compressed, decoded, plain)
    ]
    assert [outcome.used for outcome in outcomes] == [("ego", "b")] * 3
    scores = [outcome.detections.scores for outcome in outcomes]
    torch.testing.assert_close(scores[0], scores[1], atol=1e-5, rtol=1e-4)
    assert len(scores[0]) != len(scores[2]) or not torch.allclose(scores[0], scores[2], atol=1e-3)


def test_the_bytes_of_a_run_are_those_of_the_encoded_map_and_the_ego_s_own_map_is_whole() -> None:
    plain, quarter = _run(ALLIANCE, RunOptions()), _run(ALLIANCE, QUARTER)
    assert plain[0].messages[1].size_bytes == 8 * 32 * 32 * 4 + 384
    assert quarter[0].messages[1].size_bytes == 2 * 32 * 32 * 4 + 384
    assert quarter[0].messages[0].own and quarter[0].messages[0].size_bytes == plain[0].messages[0].size_bytes
    assert {record.status for result in quarter for record in result.messages} == {"used"}
    alone = replace(QUARTER, agents=1)
    assert torch.equal(_run(ALLIANCE, alone)[0].detections.scores, _run(TinyAlliance(), RunOptions(agents=1))[0].detections.scores)


@pytest.mark.parametrize("codec", ["float16,ae:2,zstd", "int8,ae:4,budget:1500,zstd", "int4,ae:2,score:0.5"])
def test_every_codec_writes_encoded_maps(codec: str) -> None:
    results = _run(ALLIANCE, RunOptions(codec=Codec.parse(codec)))
    sizes = [record.size_bytes for result in results for record in result.messages if not record.own]
    assert {record.status for result in results for record in result.messages} == {"used"}
    assert max(sizes) < 8 * 32 * 32 and (Codec.parse(codec).budget_bytes is None or max(sizes) <= 1500)


def test_a_map_of_a_compressor_that_the_node_lacks_is_rejected_by_name_and_counted() -> None:
    node = FusionNode(replace(NodeKnowledge.of(ALLIANCE, QUARTER), compressors=(ALLIANCE.compressors[2],)))
    arrivals = [
        Arrival("ego", _sent(FLOAT32, "ego"), 0),
        Arrival("b", _sent(QUARTER.codec), 0),
        Arrival("c", _sent(FLOAT32, "c"), 0),
    ]
    outcome = node.step(request_at(0), arrivals)
    assert outcome.used == ("ego", "c")
    [rejection] = outcome.rejected
    known, other = (ALLIANCE.compressors[ratio].hash[:12] for ratio in (2, 4))
    assert rejection.reason == "unknown compressor" and f"by {other}, there are {known}" in rejection.detail
    assert Counter(one.reason for one in outcome.rejected) == {"unknown compressor": 1}


def test_a_map_of_another_width_than_its_compressor_s_is_rejected() -> None:
    lied = replace(Message.from_bytes(_sent(QUARTER.codec)), compressor=ALLIANCE.compressors[2].hash)
    node = FusionNode(NodeKnowledge.of(ALLIANCE, QUARTER))
    outcome = node.step(request_at(0), [Arrival("ego", _sent(FLOAT32, "ego"), 0), Arrival("b", lied.to_bytes(), 0)])
    assert [one.reason for one in outcome.rejected] == ["other grid"] and outcome.used == ("ego",)


def test_a_run_without_the_compressor_of_its_codec_does_not_begin() -> None:
    with pytest.raises(AllianceError, match="no compressor of ratio 8; there are 2, 4"):
        LocalRuntime(ALLIANCE, SOURCE, TYPES, options=RunOptions(codec=Codec.parse("int8,ae:8")))
    with pytest.raises(ValueError, match="ae encodes feature maps, so it needs split=feature"):
        replace(QUARTER, split="pyramid")
