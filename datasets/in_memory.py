"""Scenes in memory as a source: for clouds and images that a program already holds."""

from __future__ import annotations

from collections.abc import Sequence

from heal.types import AgentFrame, ObjectLabels, Scene, SceneOutline, SensorChoice


class ScenesInMemory:
    """A `SceneSource` of given scenes; `Scene.of` makes a scene of the agents' frames."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        """Take over the scenes."""
        self.scenes = tuple(scenes)

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.scenes)

    def outline(self, index: int) -> SceneOutline:
        """Return the outline of scene `index`."""
        return self.scenes[index].outline

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """Return the frame of an agent in scene `index`, with all sensors that it has, whatever the choice.

        Raises:
            KeyError: the agent is not in the scene.
        """
        return self.scenes[index].frame(agent_id)

    def scene_objects(self, index: int) -> ObjectLabels:
        """Return the labels of scene `index` as a whole."""
        return self.scenes[index].objects
