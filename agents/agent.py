"""An agent's step in a tick: read the sensors, encode, pack a message. Plain classes; the runtimes decide where they compute."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import monotonic, perf_counter

import numpy as np
import torch
from torch import Tensor

from heal.agents.content.content import Content, ContentMaker, Sensed
from heal.agents.content.items import BoxMaker, PointMaker
from heal.agents.content.maps import FeatureMaker, PyramidMaker
from heal.agents.interfaces import AllianceLike, DetectorsLike, Encoder, Trunk
from heal.agents.message_records import AgentLatency
from heal.agents.options import RunOptions
from heal.agents.records import AgentAside, AgentReport, AgentView
from heal.base_model import BaseModel
from heal.defence.free_space import folded, free_cells
from heal.detection.visibility import PointCounts, count_points
from heal.errors import UserError
from heal.fusion.interface import coverage_of
from heal.grid import BevGrid
from heal.identity.signer import Signer
from heal.message.codec import Codec
from heal.message.message import Message
from heal.storage.compressors import StoredCompressor, require_compressor
from heal.types import MAP_SPLITS, WHOLE_SWEEP, AgentFrame, BoolMask, Float32, SceneSource, SensorChoice, UInt8

_log = logging.getLogger(__name__)
VIEW_PX = 320  # width of an agent's images in pictures


@dataclass(frozen=True)
class AgentSetup:
    """What all agents of one type share.

    Attributes:
        agent_type: the name of the type, such as "m1".
        encoder: the network of the type, in eval mode.
        trunk: the trunk of the base, which scores foreground and makes the scales that are sent under `split: pyramid`.
        base_hash: content hash of the base to which the type is aligned.
        grid: the grid of the feature maps.
        source: where the sensor data comes from.
        options: the options of the run.
        compressor: encodes the maps that cross a link, if the run's codec asks for a compressor; None if not.
        base: finds the boxes that are sent under `split: boxes`; None under any other.
    """

    agent_type: str
    encoder: Encoder
    trunk: Trunk
    base_hash: str
    grid: BevGrid
    source: SceneSource
    options: RunOptions
    compressor: StoredCompressor | None = None
    base: BaseModel | None = None

    @staticmethod
    def of(alliance: AllianceLike, agent_type: str, source: SceneSource, options: RunOptions) -> AgentSetup:
        """Collect what the agents of one type of an alliance need.

        Raises:
            UserError: the alliance has no such type, or no compressor of the codec's ratio.
        """
        encoder, ratio = alliance.agent(agent_type), options.codec.ae_ratio
        compressor = None if ratio is None else require_compressor(alliance.compressors, ratio)
        base = _base_of(alliance, agent_type) if options.split == "boxes" else None
        shared = alliance.trunk, alliance.base_hash, alliance.grid
        return AgentSetup(agent_type, encoder, *shared, source, options, compressor, base)

    @cached_property
    def maker(self) -> ContentMaker:
        """What makes the content of the agents' messages."""
        if self.base is not None:
            return BoxMaker(self.base, self.agent_type)
        if self.options.split == "points":
            return PointMaker(self.grid)
        return PyramidMaker(self.trunk) if self.options.split == "pyramid" else FeatureMaker(self.trunk)

    @property
    def sensor(self) -> SensorChoice:
        """The sensor data that the agents read."""
        return self.options.sensor_of(self.agent_type, self.encoder.sensor)

    def counts(self, tick: int, frame: AgentFrame) -> PointCounts | None:
        """Count an agent's LiDAR points on labelled vehicles; None if its sweep cannot be read.

        As in evaluations, they are those of the whole sweep, whatever sensors the type reads.
        """
        try:
            whole = frame if self.sensor == WHOLE_SWEEP else self.source.agent_frame(tick, frame.agent_id, WHOLE_SWEEP)
            objects = self.source.scene_objects(tick)
            return count_points(whole, whole.objects if objects is None else objects)
        except (UserError, OSError):  # a sweep that the type does not need may be missing or damaged; then the count is unknown
            return None


def _base_of(alliance: AllianceLike, agent_type: str) -> BaseModel:
    """Return the base by which agents of a type detect alone."""
    return alliance.base_of(agent_type) if isinstance(alliance, DetectorsLike) else alliance.base


@dataclass(frozen=True)
class AgentRequest:
    """Asks an agent for its message in a tick.

    Attributes:
        tick: index of the scene in its source.
        agent_id: the agent.
        codec: writes the message.
        own: whether the message is read on board, without a link, so that nobody has to sign it.
    """

    tick: int
    agent_id: str
    codec: Codec
    own: bool = False


@dataclass(frozen=True)
class _Step:
    """An agent's step in a tick: what the agent had sensed, what was sent, the counted points."""

    tick: int
    sensed: Sensed
    content: Content | None
    counts: PointCounts | None


class Agent:
    """One vehicle or roadside unit: turns sensor data into the bytes of a message."""

    def __init__(self, agent_id: str, setup: AgentSetup) -> None:
        """Make an agent of a type."""
        self.agent_id, self.setup = agent_id, setup
        keys = setup.options.keys
        self._signer = None if keys is None else Signer(Path(keys), agent_id)
        self._steps: dict[int, _Step] = {}

    def forget(self) -> None:
        """Forget the steps of which `aside` could tell."""
        self._steps.clear()

    def sense(self, tick: int) -> AgentFrame:
        """Read the agent's sensors in a tick."""
        return self.setup.source.agent_frame(tick, self.agent_id, self.setup.sensor)

    def pack(self, request: AgentRequest, frame: AgentFrame, features: Tensor) -> tuple[bytes, AgentReport]:
        """Pack what an agent sends into the bytes of a message, and report on it; the reported latency is that of packing.

        An agent that has nothing to send has a message without bytes. The features are (1, C, ny, nx), see `Sensed`.
        """
        started, setup, tick = perf_counter(), self.setup, request.tick
        blocks = setup.encoder.covered_blocks(frame) if setup.maker.encodes else None
        sensed = Sensed(frame, features, coverage_of(setup.encoder.coverage, blocks))
        content = setup.maker.content(sensed, request.codec)
        message = b"" if content is None else self._message(request, frame, content, blocks).to_bytes(content.codec)
        if message and self._signer is not None and not request.own:
            message = self._signer.sign(message, frame.timestamp_ns)
        latency = AgentLatency(0.0, 0.0, (perf_counter() - started) * 1e3, monotonic())
        report = AgentReport(
            agent_id=self.agent_id,
            agent_type=self.setup.agent_type,
            size_bytes=len(message),
            world_SE3_agent=frame.world_SE3_agent,
            world_SE3_agent_measured=frame.world_SE3_agent_measured,
            objects=frame.objects,
            latency=latency,
        )
        options = self.setup.options
        # Only by the wall clock does a message wait for the counts; otherwise the source has the sweep still at hand now.
        counts = self.setup.counts(tick, frame) if options.count_points and not options.realtime else None
        if options.needs_aside(tick):
            self._steps[tick] = _Step(tick, sensed, content, counts)
        return message, report

    def aside(self, tick: int) -> AgentAside:
        """Return what pictures and the evaluation want to know of the agent's step in a tick, if it has not been forgotten."""
        options, step = self.setup.options, self._steps.pop(tick, None)
        if step is None:
            return AgentAside(self.agent_id)
        counts = self.setup.counts(tick, step.sensed.frame) if options.count_points and step.counts is None else step.counts
        return AgentAside(self.agent_id, self._view(step) if options.keeps_views_of(tick) else None, counts)

    def _view(self, step: _Step) -> AgentView:
        """Return the points and the foreground scores of a step; scores that the message did not need are computed now."""
        with torch.no_grad(), self.setup.options.autocast(step.sensed.features.device.type):
            return view_of(step.sensed.frame, self.setup.maker.heat(step.sensed, step.content))

    def _message(self, request: AgentRequest, frame: AgentFrame, content: Content, blocks: BoolMask | None) -> Message:
        setup, split, maps = self.setup, self.setup.options.split, content.maps
        compressor = None if content.codec.ae_ratio is None else setup.compressor
        if compressor is not None:
            maps = (compressor.network.encoder(maps[0]),)
        return Message(
            agent_id=self.agent_id,
            agent_type=setup.agent_type,
            base_hash=setup.base_hash,
            timestamp_ns=frame.timestamp_ns,
            world_SE3_agent=frame.world_SE3_agent_measured,
            grid=setup.grid,
            maps=tuple(level[0].float().cpu().numpy() for level in maps),
            scores=tuple(_square(level) for level in content.scores),
            coverage=setup.encoder.coverage if blocks is None and split in MAP_SPLITS else None,
            split=split,
            covered=blocks if split == "feature" else None,
            free=self._free(frame, content) if request.own else None,
            compressor="" if compressor is None else compressor.hash,
        )

    def _free(self, frame: AgentFrame, content: Content) -> BoolMask | None:
        """Return the cells of the finest map that the agent's LiDAR saw to be empty, which a defended ego wants to know."""
        if self.setup.options.defence == "off" or frame.lidar is None:
            return None
        return folded(free_cells(frame.lidar.points, self.setup.grid), content.maps[0].shape[-2:])


class AgentHost:
    """Runs agents of one type with one network."""

    def __init__(self, setup: AgentSetup, device: torch.device | str = "cpu", together: bool = False) -> None:
        """Move the networks to a device; agents are made when they are first asked.

        Args:
            setup: of the agents.
            device: on which the networks compute.
            together: whether `step` encodes all its agents as one batch, as suits a GPU. On a CPU a batch is no faster, and the
                last bits of a map would depend on the number of agents in the batch.
        """
        self.setup, self.together, self._device = setup, together, torch.device(device)
        setup.encoder.to(self._device)
        setup.trunk.to(self._device)
        if setup.base is not None:
            setup.base.to(self._device)
        if setup.compressor is not None:
            setup.compressor.network.to(self._device)
        self._agents: dict[str, Agent] = {}

    def step(self, requests: Sequence[AgentRequest]) -> list[tuple[bytes, AgentReport]]:
        """Let agents step, in one tick or in several: return the message and the report of each.

        What `asides` tells of earlier steps of these agents is forgotten.
        """
        for request in requests:
            self._agents.setdefault(request.agent_id, Agent(request.agent_id, self.setup)).forget()
        size = len(requests) if self.together else 1
        batches = [requests[i : i + size] for i in range(0, len(requests), size)]
        return [stepped for batch in batches for stepped in self._step(batch)]

    def asides(self, tick: int) -> list[AgentAside]:
        """Return what pictures and the evaluation want to know of the agents that have stepped in a tick."""
        return [_safe_aside(agent, tick) for agent in self._agents.values()]

    def _step(self, requests: Sequence[AgentRequest]) -> list[tuple[bytes, AgentReport]]:
        agents = [self._agents[request.agent_id] for request in requests]
        started = perf_counter()
        frames = [agent.sense(request.tick) for agent, request in zip(agents, requests, strict=True)]
        sensed = perf_counter()
        with torch.no_grad(), self.setup.options.autocast(self._device.type):
            features = self._encode(frames)
            encoded = perf_counter()
            stepped = [
                agent.pack(request, frame, features[i : i + 1])
                for i, (agent, frame, request) in enumerate(zip(agents, frames, requests, strict=True))
            ]
        shared_ms = [(end - begin) * 1e3 / len(agents) for begin, end in ((started, sensed), (sensed, encoded))]
        return [(message, report.after(*shared_ms)) for message, report in stepped]

    def _encode(self, frames: Sequence[AgentFrame]) -> Tensor:
        if not self.setup.maker.encodes:
            return torch.zeros(len(frames), 0, device=self._device)
        features = self.setup.encoder(self.setup.encoder.prepare(frames).to(self._device))
        # In the contiguous format, in which a receiver has the map: in another one the trunk's last bits would differ between the
        # two sides of the link.
        return features.float().contiguous()


def _safe_aside(agent: Agent, tick: int) -> AgentAside:
    """Return what an agent tells beside its message; an error costs its part of a picture, and is logged."""
    try:
        return agent.aside(tick)
    except Exception:  # noqa: BLE001 - pictures must not end a run
        _log.exception("agent %s has no part in the picture of tick %d", agent.agent_id, tick)
        return AgentAside(agent.agent_id)


def view_of(frame: AgentFrame, scores: Tensor) -> AgentView:
    """Return what a picture shows of an agent: its points, its images, and scores (1, 1, ny, nx) on the grid around it."""
    points = np.zeros((0, 4), np.float32) if frame.lidar is None else frame.lidar.points
    images = tuple(_small_copy(camera.image) for camera in frame.cameras)
    return AgentView(frame.agent_id, frame.world_SE3_agent, points, _square(scores), images)


def _small_copy(image: UInt8) -> UInt8:
    """Return an RGB image (H, W, 3) with a whole number of pixels merged into one, so that it is at most `VIEW_PX` wide."""
    step = -(-image.shape[1] // VIEW_PX)
    height, width = image.shape[0] // step, image.shape[1] // step
    blocks = image[: height * step, : width * step].reshape(height, step, width, step, 3)
    small: UInt8 = blocks.mean(axis=(1, 3)).round().astype(np.uint8)
    return small


def _square(scores: Tensor) -> Float32:
    """Return scores (1, 1, ny, nx) as an array (ny, nx)."""
    square: Float32 = scores[0, 0].cpu().numpy()
    return square
