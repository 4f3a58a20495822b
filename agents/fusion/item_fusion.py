"""Late and early fusion of one tick: the boxes of agents are joined, or detected in the joint cloud of the agents' points."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import torch

from heal.agents.content.items import cloud_reader, detect_alone
from heal.agents.fusion.map_memory import KnownMap
from heal.agents.fusion.tick_fusion import HeadFusion, TickFusion
from heal.detection.detections import Detections
from heal.detection.head import HeadOutput
from heal.encoders.joint_cloud import join_clouds
from heal.fusion.interface import coverage_of
from heal.fusion.late import AgentBoxes, join_boxes
from heal.message.items import CLASS, SCORE
from heal.types import AgentFrame, LidarScan, ObjectLabels


class BoxFusion(TickFusion):
    """Late fusion: duplicates are suppressed once among the boxes of all agents.

    The weight of an agent, which is less than 1 for old boxes and for a suspected sender, is a factor on the scores of its boxes.
    """

    def detect(self, maps: Sequence[KnownMap]) -> Detections:
        """Return the boxes of all agents without duplicates."""
        began = perf_counter()
        parts = [self._boxes_of(known) for known in maps]
        found = self.in_region(join_boxes(parts, self.frame, self.network.base.config.decode, self.box_range_m))
        self.decode_ms += (perf_counter() - began) * 1e3
        return found

    def _boxes_of(self, known: KnownMap) -> AgentBoxes:
        items = known.maps[0][0, :, 0].T
        classes = items[:, CLASS].long() if items.shape[1] > CLASS else torch.zeros(len(items), dtype=torch.int64)
        return AgentBoxes(items[:, :SCORE], items[:, SCORE] * self.weight_of(known), classes, known.world_SE3_agent)


class PointFusion(HeadFusion):
    """Early fusion: the network of an agent type and the base detect in the points of all agents; points have no weights."""

    def heads(self, maps: Sequence[KnownMap]) -> HeadOutput:
        """Return the output of the heads for the joint cloud."""
        network, request = self.network, self.request
        agent_type = cloud_reader(network.encoders, request.ego_type)
        encoder = network.encoders[agent_type]
        clouds = [(known.maps[0][0, :, 0].T.numpy(), known.world_SE3_agent) for known in maps]
        scan, pose = LidarScan(join_clouds(clouds, self.frame)), self.frame
        frame = AgentFrame(request.ego_id, "vehicle", request.timestamp_ns, pose, pose, scan, (), ObjectLabels.empty())
        features = encoder(encoder.prepare([frame]).to(network.device)).float().contiguous()
        coverage = coverage_of(encoder.coverage, encoder.covered_blocks(frame))
        return detect_alone(network.base, features, coverage, agent_type)
