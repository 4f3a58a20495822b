"""The one interface of all runtimes, and the choice between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Protocol

from heal.agent_types import TypesOf
from heal.agents.deployment import Deployment
from heal.agents.interfaces import AllianceLike
from heal.agents.network.network import Network
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.types import SceneSource


class Runtime(Protocol):
    """Runs ticks; a context manager. All runtimes give the same detections to the last bit."""

    def run(self, ticks: Iterable[int]) -> Iterator[TickResult]:
        """The results of the ticks (indices of scenes in the source), in their order."""
        ...

    def close(self) -> None:
        """Free what the runtime holds; it cannot run again."""
        ...

    def __enter__(self) -> Runtime:
        """The runtime itself."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close it."""
        ...


def open_runtime(
    name: str,
    alliance: AllianceLike,
    source: SceneSource,
    types_of: TypesOf,
    network: Network,
    options: RunOptions,
    deployment: Deployment | None = None,
) -> Runtime:
    """A runtime by name.

    Args:
        name: "local", all in this process, or "ray", every agent and the fusion node an actor of its own.
        alliance: the networks.
        source: the scenes.
        types_of: the agents of a scene and their types; see `heal.agent_types`.
        network: what the messages cross; see `heal.agents.network.spec.LinkSpec`.
        options: what takes part, what is sent, what is made of it.
        deployment: where "ray" computes.
    """
    if name == "local":
        from heal.agents.local_runtime import LocalRuntime

        return LocalRuntime(alliance, source, types_of, network, options)
    if name == "ray":
        from heal.agents.on_ray.runtime import RayRuntime

        return RayRuntime(alliance, source, types_of, network, options, deployment)
    raise ValueError(f"unknown runtime {name!r}; there are local, ray")
