"""The topics of a run's door, which Zenoh calls key expressions: one for each agent's messages, and one for the clock."""

from __future__ import annotations

import re

_NAME = r"[A-Za-z0-9_.-]{1,128}"  # one part of a topic, of bounded length


def is_name(text: str) -> bool:
    """Return whether a text can be one part of a topic: up to 128 letters, digits and the signs - _ . alone."""
    return re.fullmatch(_NAME, text) is not None


def clock_topic(run: str) -> str:
    """Return the topic on which the door publishes the clock of a run."""
    return f"heal/{run}/clock"


def message_topic(run: str, agent_id: str) -> str:
    """Return the topic on which an agent sends its messages."""
    return f"heal/{run}/agent/{agent_id}/message"


def agent_topics(run: str) -> str:
    """Return the pattern of the topics that the door listens to."""
    return f"heal/{run}/agent/**"


def sender_of(topic: str, run: str) -> str | None:
    """Return the agent whose messages a topic carries; None for any other topic."""
    found = re.fullmatch(rf"heal/{re.escape(run)}/agent/({_NAME})/message", topic)
    return None if found is None else found[1]
