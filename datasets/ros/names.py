"""The names of an agent's topics and frames in a bag, and the agent that a frame's name tells."""

from __future__ import annotations

import re

from heal.types import AgentKind, is_roadside_name

WORLD = "map"
BASE = "base"
OBJECTS, RECORDING = "/objects", "/recording"
TF, TF_STATIC = "/tf", "/tf_static"
_PREFIXES: dict[AgentKind, str] = {"vehicle": "agent", "roadside": "roadside"}
_OWN_FRAME = re.compile(rf"({'|'.join(_PREFIXES.values())})_(.+)/{BASE}")


def agent_name(kind: AgentKind, agent_id: str) -> str:
    """Return the name with which the frames of an agent begin, such as "agent_1001" or "roadside_-1"."""
    return f"{_PREFIXES[kind]}_{agent_id}"


def is_static(topic: str) -> bool:
    """Whether the transforms of a topic hold until newer ones come; robots may have the topic in a namespace of their own."""
    return topic.endswith(TF_STATIC)


def agent_of(frame: str) -> tuple[str, AgentKind] | None:
    """Return the id and the kind of the agent whose base a frame is; None for a frame that `agent_name` has not named."""
    match = _OWN_FRAME.fullmatch(frame)
    if match is None:
        return None
    kind: AgentKind = "roadside" if match[1] == _PREFIXES["roadside"] else "vehicle"
    return match[2], kind


def foreign_agent(body: str, alone: bool) -> tuple[str, AgentKind]:
    """Return an id and a kind for the agent of another program's frame: "ego" if it is alone, else what tells it from others."""
    first, _, rest = body.partition("/")
    agent_id = "ego" if alone else first if rest else body
    return agent_id, "roadside" if is_roadside_name(agent_id) else "vehicle"


class TopicNames:
    """Names the topics of agents and of their cameras in the letters that ROS 2 allows, each unlike any other."""

    def __init__(self) -> None:
        """Start without any name."""
        self._topics: dict[tuple[str, str], str] = {}

    def under(self, parent: str, name: str) -> str:
        """Return the topic for a name below a parent topic, "" for the top: such as "/roadside_m1" for "roadside_-1"."""
        if (parent, name) not in self._topics:
            taken, number = set(self._topics.values()), 1
            while (topic := f"{parent}/{_token(name)}{'' if number == 1 else f'_{number}'}") in taken:
                number += 1
            self._topics[parent, name] = topic
        return self._topics[parent, name]


def _token(text: str) -> str:
    """Return a part of a topic's name: letters, digits and single underscores, no digit first; a minus becomes m."""
    clean = re.sub("_+", "_", re.sub("[^A-Za-z0-9_]", "x", text.replace("-", "m"))).strip("_") or "x"
    return f"x{clean}" if clean[0].isdigit() else clean
