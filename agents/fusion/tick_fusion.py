"""The fusion of one tick: the boxes that the messages of any of the tick's agents give together, in one frame."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from heal.agents.fusion.map_memory import KnownMap
from heal.agents.interfaces import Encoder
from heal.agents.options import PoseCorrection, RunOptions
from heal.agents.records import FusionRequest, Sender
from heal.base_model import BaseModel
from heal.detection.boxes import transform_corners
from heal.detection.detections import Detections
from heal.detection.head import HeadOutput
from heal.pose_correction.boxes import SeenBoxes
from heal.pose_correction.by_boxes import motions_by_boxes
from heal.pose_correction.by_peaks import motions_by_peaks
from heal.pose_correction.motions import with_motions
from heal.pose_correction.peaks import find_peaks
from heal.se3 import inverse_SE3, relative_SE3
from heal.types import Float64

BORDER_M = 1.0
"""A region's node also returns boxes with a centre up to this far beyond the region's border.

The nodes of two regions place a vehicle on their common border some centimetres apart, and each node may place the vehicle beyond
the border. Where the regions' results are joined, the better of two boxes of one vehicle is kept.
"""

_EVERYWHERE = (-math.inf,) * 3 + (math.inf,) * 3


class FusionNetwork:
    """The networks of a fusion node on their device, and the options by which the node fuses."""

    def __init__(
        self, base: BaseModel, device: torch.device, options: RunOptions, encoders: Mapping[str, Encoder] | None = None
    ) -> None:
        """Move the base to a device, and the networks of the agent types that read the joint cloud of early fusion."""
        self.base, self.device, self.options = base.to(device), device, options
        self.encoders = dict(encoders or {})
        for encoder in self.encoders.values():
            encoder.to(device)


class TickFusion(ABC):
    """Fuses what agents have sent in the frame of one request.

    Attributes:
        network: the networks.
        request: of the tick.
        frame: (4, 4) float64 world_SE3_frame, the frame of the boxes.
        weight_of: factor on the weight of what an agent has sent.
        decode_ms: how long all decoding of boxes has taken so far.
    """

    def __init__(
        self, network: FusionNetwork, request: FusionRequest, world_SE3_frame: Float64, weight_of: Callable[[KnownMap], float]
    ) -> None:
        """Fuse with networks; arguments as the attributes."""
        self.network, self.request, self.frame, self.weight_of = network, request, world_SE3_frame, weight_of
        self.decode_ms = 0.0

    @abstractmethod
    def detect(self, maps: Sequence[KnownMap]) -> Detections:
        """Return the boxes that maps give together, as if no other map had come; the ego's map is the first, if it is among them.

        Raises:
            ArithmeticError: the output of the heads is not finite.
        """

    @property
    def box_range_m(self) -> Sequence[float]:
        """The range in which boxes have to lie, in the frame: the grid's, or any for a region."""
        return self.network.base.config.grid.range_m if self.request.region is None else _EVERYWHERE

    def in_region(self, found: Detections) -> Detections:
        """Return the boxes whose centre is in the region of the request or up to `BORDER_M` beyond; all without a region."""
        region = self.request.region
        if region is None:
            return found
        centres = transform_corners(torch.from_numpy(self.frame), found.boxes[:, :3].double())
        off_m = (centres[:, :2] - centres.new_tensor(region.centre_m)).abs()
        return found.select((off_m <= region.edge_m / 2 + BORDER_M).all(dim=1))


class HeadFusion(TickFusion):
    """A fusion whose boxes the heads of the base find."""

    @abstractmethod
    def heads(self, maps: Sequence[KnownMap]) -> HeadOutput:
        """Return the output of the heads for what agents have sent together."""

    def detect(self, maps: Sequence[KnownMap]) -> Detections:
        """Return the boxes that maps give together, as if no other map had come; the ego's map is the first, if it is among them.

        Raises:
            ArithmeticError: the output of the heads is not finite.
        """
        with torch.no_grad(), self.network.options.autocast(self.network.device.type):
            head = self.heads(maps)
        if not all(bool(part.isfinite().all()) for part in (head.classification, head.regression, head.direction)):
            raise ArithmeticError("the output of the heads is not finite")
        fused = perf_counter()
        with torch.no_grad():
            detections = self.in_region(self.network.base.detection.decode(head, self.box_range_m))
        self.decode_ms += (perf_counter() - fused) * 1e3
        return detections


class MapFusion(HeadFusion):
    """Fuses feature maps or the scales of the trunk."""

    def __init__(
        self, network: FusionNetwork, request: FusionRequest, world_SE3_frame: Float64, weight_of: Callable[[KnownMap], float]
    ) -> None:
        """Fuse with networks; arguments as the attributes."""
        super().__init__(network, request, world_SE3_frame, weight_of)
        self._seen = dict[Sender, SeenBoxes]()

    def heads(self, maps: Sequence[KnownMap]) -> HeadOutput:
        """Return the output of the heads for the fused maps."""
        return self._heads(maps, self._poses(maps), self._weights(maps), maps[0].agent_id == self.request.ego_id)

    def _heads(self, maps: Sequence[KnownMap], poses: Sequence[Float64], weights: Tensor | None, ego_first: bool) -> HeadOutput:
        """Fuse maps at these poses, `agent_SE3_frame`, and run the heads."""
        base = self.network.base
        levels = list(zip(*(known.maps for known in maps), strict=True))
        scores = list(zip(*(known.scores for known in maps), strict=True))
        types, stacked = [known.agent_type for known in maps], torch.from_numpy(np.stack(poses))
        return base.heads(base.fuse_scored(levels, scores, stacked, [len(maps)], weights, ego_first, types))

    def _weights(self, maps: Sequence[KnownMap]) -> Tensor | None:
        """Return the factors on the weights of maps; None if all are 1."""
        weights = [self.weight_of(known) for known in maps]
        return None if all(weight == 1 for weight in weights) else torch.tensor(weights)

    def _poses(self, maps: Sequence[KnownMap]) -> list[Float64]:
        """Return `agent_SE3_frame` for each map, corrected if the run corrects poses.

        Around the ego, poses are corrected relative to the ego's own map of this tick, and stay as measured without it. In a region
        no agent is the reference: all agents move to their most probable poses in the world.
        """
        request, first = self.request, maps[0]
        measured = [relative_SE3(known.world_SE3_agent, self.frame) for known in maps]
        has_reference = first.agent_id == request.ego_id and first.tick == request.tick
        if len(maps) == 1 or not (has_reference or request.region):
            return measured
        ego_first = request.region is None
        return with_motions(measured, self._motions(maps, [inverse_SE3(pose) for pose in measured], ego_first), ego_first)

    def _motions(self, maps: Sequence[KnownMap], frame_SE3_agents: Sequence[Float64], ego_first: bool) -> list[Float64] | None:
        """Return the motions that correct the agents' poses in the frame; None for no correction."""
        choice: PoseCorrection = self.network.options.correct_poses
        if choice == "boxes":
            return motions_by_boxes([self._boxes_of(known) for known in maps], frame_SE3_agents, ego_first)
        if choice == "peaks" and self.network.base.fusion.scores_foreground:
            grid = self.network.base.config.grid
            return motions_by_peaks([find_peaks(known.scores[0], grid) for known in maps], frame_SE3_agents)
        return None

    def _boxes_of(self, known: KnownMap) -> SeenBoxes:
        """Return the boxes that the map of an agent gives alone, in its own frame; they are found once in a tick."""
        sender = known.agent_id, known.tick
        if sender not in self._seen:
            base = self.network.base
            head = self._heads([known], [np.eye(4)], None, ego_first=True)
            self._seen[sender] = SeenBoxes.of(base.detection.decode(head, base.config.grid.range_m))
        return self._seen[sender]
