"""What is rendered of a town's cameras: the size of the images, their smoothing, the agents with cameras, and the step of depth."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from heal.datasets.files import WHOLE_METRES, require_depth_step
from heal.datasets.town.agents import TownAgent
from heal.datasets.town.presets import TownPreset
from heal.errors import UserError

WANTED_AGENTS = ("all", "vehicles", "roadside", "ego")
SMALLEST_PX, LARGEST_PX = 16, 4096


@dataclass(frozen=True)
class CameraOptions:
    """The choice of what is rendered of a town's cameras; the default is what the preset says, for every agent.

    Attributes:
        image_px: width and height of the images; by default the preset's.
        smooth: smooth edges: pixels at edges get three further rays, which takes about 0.4 of the time.
        agents: agents whose cameras exist, one of `WANTED_AGENTS`; the others have a LiDAR alone.
        depth_step_m: step of the depth images that are written, see `heal.datasets.files.write_depth`.
    """

    image_px: tuple[int, int] | None = None
    smooth: bool = True
    agents: str = "all"
    depth_step_m: float = WHOLE_METRES

    def __post_init__(self) -> None:
        """Check the values; UserError if a value is out of its range."""
        if self.image_px is not None and not all(SMALLEST_PX <= side <= LARGEST_PX for side in self.image_px):
            width, height = self.image_px
            raise UserError(f"expected images of {SMALLEST_PX} to {LARGEST_PX} pixels a side, got {width}x{height}")
        if self.agents not in WANTED_AGENTS:
            raise UserError(f"unknown agents with cameras {self.agents!r}; there are {', '.join(WANTED_AGENTS)}")
        require_depth_step(self.depth_step_m)

    def for_preset(self, preset: TownPreset) -> CameraOptions:
        """Return these options without the size of the images if it is the preset's own."""
        return replace(self, image_px=None) if self.image_px == preset.image_px else self

    def applied_to(self, preset: TownPreset) -> TownPreset:
        """Return a preset with images of this size."""
        return preset if self.image_px is None else preset.with_images(self.image_px)

    def includes(self, agent: TownAgent, ego_id: str) -> bool:
        """Return whether an agent has cameras."""
        if self.agents == "ego":
            return agent.agent_id == ego_id
        return self.agents == "all" or (self.agents == "roadside") == (agent.kind == "roadside")

    def changes(self) -> dict[str, Any]:
        """Return the options that differ from the default, as values of YAML."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if getattr(self, field.name) != field.default}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


AS_THE_PRESET = CameraOptions()  # all agents have cameras, with the preset's images
