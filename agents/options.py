"""The options of a run, which runtimes, agents and fusion nodes share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, get_args

import torch

from heal.agents.joining import Join
from heal.agents.pacer import NOMINAL_HZ
from heal.device import EXACT, ROUNDED, Float32Products
from heal.errors import UserError
from heal.message.codec import FLOAT32, Codec
from heal.types import BEAMS, MAP_SPLITS, SPLITS, SensorChoice, Split

Precision = Literal["float32", "tf32", "bfloat16"]
LatePolicy = Literal["drop", "hold", "weigh"]
LATE_POLICIES: tuple[LatePolicy, ...] = get_args(LatePolicy)
GuardChoice = Literal["auto", "on", "off"]
PoseCorrection = Literal["off", "peaks", "boxes"]


@dataclass(frozen=True)
class _Switch:
    """Marks a field whose values on and off YAML reads as true and false.

    Attributes:
        on: the value that true stands for.
    """

    on: str = "on"

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Return the schema of the field; pydantic calls this method where it finds the mark."""
        from pydantic_core import core_schema

        words = {True: self.on, False: "off"}
        return core_schema.no_info_before_validator_function(
            lambda value: words[value] if isinstance(value, bool) else value, handler(source)
        )


@dataclass(frozen=True)
class RunOptions:
    """The options of a run: which agents take part, what they send, and how the fusion node treats it.

    `Deployment` says where the run computes.

    Attributes:
        agents: number of agents that take part: the ego, then the first agents within `comm_range_m`; None for all of them. Ground
            truth is what any agent within this range has labelled, whether it takes part or not.
        comm_range_m: range of communication in metres. Agents farther away from the ego, in the plane, are not used, and their
            labels are no ground truth. With regions, the distance counts to the nearest side of the region, and the labels of all
            agents are ground truth.
        labels_range_m: range around the ego in metres within which the labels of agents are ground truth, where it is not
            `comm_range_m`: runs with several ranges of communication can then be compared on the same objects.
        region_m: edge in metres of the regions, squares along the world's axes. Each region has a fusion node, which receives the
            messages of all agents around. None for a single fusion node on board the ego. See `heal.agents.fusion.division`.
        split: what agents send. "feature" sends their feature maps, and the base's trunk computes at the fusion node; "pyramid"
            sends the scales of the trunk, which computes at every agent. "boxes" is late fusion: every agent detects alone and
            sends its boxes, duplicates included, which are suppressed once among those of all agents. "points" is early fusion:
            every agent sends the points of its LiDAR, and the networks of the ego's type detect in the joint cloud.
        codec: how feature maps are written into messages; boxes and points are written as floats, all of them or, of boxes, those
            of the least score.
        adapt: whether every sender fits the size of its messages to the rate that its link has carried so far.
        deadline_ms: the fusion node fuses the messages that have arrived this long after the tick.
        late: policy for a map that misses its tick. "drop" ignores it. "hold" keeps it until a newer map comes, and fuses it at the
            pose at which it was sensed. "weigh" holds it and gives it less weight the older it is.
        max_age_ms: largest age of a held map. A message whose timestamp differs more from that of its tick is rejected as stale.
        half_life_ms: under "weigh", the age at which a held map has half of its weight.
        correct_poses: whether and how measured poses are corrected, relative to the ego's, by the vehicles that several agents
            see: "off", by the "peaks" of the agents' foreground scores, or by the "boxes" that each agent's map gives alone. A base
            that scores no foreground has no peaks, and leaves the poses as they are; so do messages of boxes and points. YAML's
            true stands for "peaks".
        precision: number format of the networks' dense layers. "bfloat16" pays on GPUs and on CPUs with AMX. "tf32" is float32
            whose products GPUs round to 10 bits; a CPU computes float32. The format of messages is that of the codec.
        threads: torch threads of each process; 1 is fastest where several actors share few cores.
        keep_views: whether the results hold points and heat maps, for pictures; a set keeps them in these ticks alone.
        count_points: whether agents count their LiDAR points on the vehicles that they label, which tells the vehicles that are
            hidden from the ego.
        include_ego: whether the ego's own vehicle is ground truth where another agent has labelled it, as in OPV2V's evaluation.
            Otherwise it is neither ground truth nor a detection.
        use_z: whether ground truth must lie in the range in height too; the rule of DAIR-V2X tests x and y alone.
        guard: whether the fusion node keeps the ego's confident boxes (docs/guard.md). "auto" does as the base's settings say, "on"
            guards with the base's settings or the default ones. With regions there is no ego, and nothing is guarded.
        defence: whether the fusion node checks what senders claim (docs/lying_senders.md). It is off by default, because it counts
            poses and maps that are far from those of its agent types as lies, as experiments with large errors make them.
        blind_ego: whether the ego's own map is not fused, which shows what the others alone find around it.
        lidar_lines: laser lines of the clouds that agents of some types read in this run, 16, 32 or 64 by type; 64 stands for the
            agent's own cloud. Agents of the other types read the clouds that their type was trained with.
        joins: agents that join during the run, in addition to those that `agents` counts.
        realtime: whether the run goes by the wall clock: every tick begins at its own time, and the fusion node fuses what has been
            computed and has arrived by the deadline, or by the time at which the ego has its own map, if that is later.
        rate_hz: by the wall clock, how many ticks of data at 10 Hz begin in a second; links and deadlines slow down as the data do.
        keys: folder of keys, as `heal keys new` makes it: agents sign what they send over links, and fusion nodes take only what
            an agent on the folder's allow list has signed (docs/security.md). None: nothing is signed.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    agents: int | None = None
    comm_range_m: float = 70.0
    labels_range_m: float | None = None
    region_m: float | None = None
    split: Split = "feature"
    codec: Codec = FLOAT32
    adapt: bool = False
    deadline_ms: float = 100.0
    late: LatePolicy = "weigh"
    max_age_ms: float = 500.0
    half_life_ms: float = 200.0
    correct_poses: Annotated[PoseCorrection, _Switch("peaks")] = "peaks"
    precision: Precision = "float32"
    threads: int = 1
    keep_views: bool | frozenset[int] = False
    count_points: bool = False
    include_ego: bool = False
    use_z: bool = True
    guard: Annotated[GuardChoice, _Switch()] = "auto"
    defence: Annotated[Literal["on", "off"], _Switch()] = "off"
    blind_ego: bool = False
    lidar_lines: Mapping[str, int] = field(default_factory=dict, hash=False)
    joins: tuple[Join, ...] = ()
    realtime: bool = False
    rate_hz: float = NOMINAL_HZ
    keys: str | None = None

    @property
    def ego_range_m(self) -> float:
        """Range of communication around the ego in metres; infinite with regions, from which the range counts instead."""
        return self.comm_range_m if self.region_m is None else math.inf

    @property
    def truth_range_m(self) -> float:
        """Range around the ego in metres within which labels are ground truth; infinite with regions."""
        return self.ego_range_m if self.labels_range_m is None or self.region_m is not None else self.labels_range_m

    def sensor_of(self, agent_type: str, trained: SensorChoice) -> SensorChoice:
        """Return the sensor data that agents of a type read in this run, from those that their network was trained with."""
        trained = replace(trained, cameras=False, depth=False) if self.split == "points" else trained
        lines = self.lidar_lines.get(agent_type)
        return trained if lines is None or not trained.lidar else replace(trained, beams=lines)

    @property
    def most_agents(self) -> int | None:
        """The largest number of agents in a tick; None for any number."""
        return None if self.joins else self.agents

    def keeps_views_of(self, tick: int) -> bool:
        """Return whether the result of a tick holds points and heat maps."""
        return self.keep_views if isinstance(self.keep_views, bool) else tick in self.keep_views

    def needs_aside(self, tick: int) -> bool:
        """Return whether agents tell more of a tick than their messages do, for pictures or the evaluation."""
        return self.count_points or self.keeps_views_of(tick)

    @property
    def float32_products(self) -> Float32Products:
        """How GPUs multiply float32 numbers: exactly, or rounded under "tf32"."""
        return ROUNDED if self.precision == "tf32" else EXACT

    def autocast(self, device_type: str) -> torch.autocast:
        """Return the context in which networks compute on a device type, such as "cpu"."""
        return torch.autocast(device_type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def __post_init__(self) -> None:
        """Check that the options are in their ranges."""
        if self.precision not in get_args(Precision):
            raise UserError(f"precision: expected one of {', '.join(get_args(Precision))}, got {self.precision!r}")
        if self.agents is not None and self.agents < 1:
            raise UserError(f"agents: expected at least 1 (the ego), got {self.agents}")
        if min(self.comm_range_m, self.labels_range_m or 0.0, self.deadline_ms, self.max_age_ms) < 0 or self.threads < 1:
            raise UserError(f"ranges and times must not be negative and threads at least 1, got {self}")
        if self.late not in LATE_POLICIES or self.split not in SPLITS:
            raise UserError(
                f"expected late to be one of {LATE_POLICIES} and split one of {SPLITS}, got {self.late!r} and {self.split!r}"
            )
        if not 0 < self.rate_hz < math.inf:
            raise UserError(f"rate_hz: expected more than 0, such as {NOMINAL_HZ:g} for data at 10 Hz, got {self.rate_hz}")
        if not self.half_life_ms > 0:
            raise UserError(f"half_life_ms: expected more than 0, got {self.half_life_ms}")
        if self.region_m is not None and not self.region_m > 0:
            raise UserError(f"region_m: expected more than 0, or None for one fusion node around the ego, got {self.region_m}")
        if self.correct_poses not in get_args(PoseCorrection):
            raise UserError(f"correct_poses: expected one of {', '.join(get_args(PoseCorrection))}, got {self.correct_poses!r}")
        self._check_items()
        if self.codec.ae_ratio is not None and self.split != "feature":
            raise UserError(f"codec {self.codec}: ae encodes feature maps, so it needs split=feature, got split={self.split}")
        if unknown := {name: lines for name, lines in self.lidar_lines.items() if lines not in BEAMS}:
            raise UserError(f"lidar_lines: expected {', '.join(map(str, BEAMS[:-1]))} or {BEAMS[-1]} of each type, got {unknown}")
        self._check_guard()

    def _check_items(self) -> None:
        """Check the options that boxes and points do not have."""
        if self.split in MAP_SPLITS:
            return
        if self.correct_poses == "boxes":
            raise UserError(
                f"split={self.split}: poses are corrected by boxes only where maps are fused; expected correct_poses=off"
            )
        codec = self.codec
        if self.adapt or codec.budget_bytes is not None or codec.values not in ("float32", "float16"):
            raise UserError(
                f"split={self.split}: all {self.split} are sent, as float32 or float16, perhaps with zstd; got codec {codec} and "
                f"adapt={self.adapt}"
            )
        if self.split == "points" and (codec.min_score > 0 or self.region_m is not None):
            raise UserError(
                "split=points: points have no score, and the networks of the ego's type detect in them; expected no score:S and no "
                f"region_m, got codec {codec} and region_m={self.region_m}"
            )

    def _check_guard(self) -> None:
        """Check the options that need an ego, or maps."""
        if self.defence == "on" and self.split not in MAP_SPLITS:
            raise UserError(f"defence=on checks maps, expected split={' or '.join(MAP_SPLITS)}, got split={self.split}")
        if self.guard not in get_args(GuardChoice):
            raise UserError(f"guard: expected one of {', '.join(get_args(GuardChoice))}, got {self.guard!r}")
        if self.region_m is not None and (self.guard == "on" or self.blind_ego):
            raise UserError(
                "guard=on and blind_ego need a fusion node around the ego, but region_m divides the ground into regions"
            )
