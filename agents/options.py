"""How to run: the options that runtimes, agents and fusion nodes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch

from heal.message.codec import FLOAT32, Codec
from heal.types import Split

Precision = Literal["float32", "bfloat16"]
LatePolicy = Literal["drop", "hold", "weigh"]
LATE_POLICIES: tuple[LatePolicy, ...] = get_args(LatePolicy)
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class RunOptions:
    """How to run: what takes part, what is sent, what the fusion node does with it. Where it computes is `Deployment`'s matter.

    Attributes:
        agents: let only the ego and the first agents - 1 others take part; None for all. Ground truth is of all agents' labels.
        comm_range_m: agents farther than this from the ego, in the plane, are not used; with regions, from a region's near side.
        region_m: edge of the regions, squares along the world's axes, each of which has a fusion node of its own that hears all
            agents around, the ego like any other; None for one node, on board of the ego. See `heal.agents.fusion.division`.
        split: where the base's trunk computes: "feature" at the fusion node, "pyramid" at every agent.
        codec: how feature maps become bytes.
        adapt: let every sender fit its messages to the rate that its link has given it so far.
        deadline_ms: the fusion node fuses what has arrived this long after its tick.
        late: what becomes of a map that misses its own tick: "drop" it; "hold" it until a newer one comes and fuse it where it was
            taken; or "weigh" it too, which is to hold it and to trust it less the older it is.
        max_age_ms: a map older than this is not used; a message whose timestamp is further from its tick's is stale and rejected.
        half_life_ms: under "weigh", the age at which a held map counts half.
        align: correct the agents' measured poses, relative to the ego's, by what they see in common with it and with each other.
        precision: of the networks' dense layers; "bfloat16" pays on GPUs and on CPUs with AMX. Messages hold what the codec says.
        threads: torch threads of each process; 1 is fastest where several actors share few cores.
        keep_views: hand points and heat maps through to the results, for pictures; of all ticks, or of these.
        include_ego: the ego's own vehicle is to be found where another agent has labelled it, as in OPV2V's evaluation; otherwise
            it is neither ground truth nor a detection.
        use_z: ground truth must lie in the range in height too; the rule for DAIR-V2X tests x and y alone.
        realtime: run by the wall clock: begin each tick at its own time, and fuse at the deadline what has been computed and has
            arrived by then.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    agents: int | None = None
    comm_range_m: float = 70.0
    region_m: float | None = None
    split: Split = "feature"
    codec: Codec = FLOAT32
    adapt: bool = False
    deadline_ms: float = 100.0
    late: LatePolicy = "weigh"
    max_age_ms: float = 500.0
    half_life_ms: float = 200.0
    align: bool = True
    precision: Precision = "float32"
    threads: int = 1
    keep_views: bool | frozenset[int] = False
    include_ego: bool = False
    use_z: bool = True
    realtime: bool = False

    def autocast(self, device_type: str) -> torch.autocast:
        """In which networks compute on a kind of device."""
        return torch.autocast(device_type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def __post_init__(self) -> None:
        """Check that everything can be meant."""
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision: expected one of {', '.join(get_args(Precision))}, got {self.precision!r}")
        if self.agents is not None and self.agents < 1:
            raise ValueError(f"agents: expected at least 1 (the ego), got {self.agents}")
        if min(self.comm_range_m, self.deadline_ms, self.max_age_ms) < 0 or self.threads < 1:
            raise ValueError(f"ranges and times must not be negative and threads at least 1, got {self}")
        if self.late not in LATE_POLICIES or self.split not in SPLITS:
            raise ValueError(
                f"expected late to be one of {LATE_POLICIES} and split one of {SPLITS}, got {self.late!r} and {self.split!r}"
            )
        if not self.half_life_ms > 0:
            raise ValueError(f"half_life_ms: expected more than 0, got {self.half_life_ms}")
        if self.region_m is not None and not self.region_m > 0:
            raise ValueError(f"region_m: expected more than 0, or None for one fusion node around the ego, got {self.region_m}")
