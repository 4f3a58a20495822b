"""The interface of all runtimes, and the choice between them."""

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
from heal.device import choose_device
from heal.errors import UserError
from heal.types import SceneSource


class Runtime(Protocol):
    """Runs ticks, as a context manager. All runtimes give the same detections to the last bit."""

    def run(self, ticks: Iterable[int]) -> Iterator[TickResult]:
        """Return the results of ticks (indices of scenes in the source), in their order."""
        ...

    def close(self) -> None:
        """Free what the runtime holds; a closed runtime cannot run again."""
        ...

    def __enter__(self) -> Runtime:
        """Return the runtime."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the runtime."""
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
    """Open a runtime by name.

    Args:
        name: "local" computes in this process; "ray" makes an actor of every agent and of the fusion node.
        alliance: the base and the networks of the agent types.
        source: the scenes.
        types_of: the agents of a scene and their types; see `heal.agent_types`.
        network: the links that the messages cross; see `heal.agents.network.spec.LinkSpec`.
        options: which agents take part, what they send, and how the fusion node treats it.
        deployment: where the run computes; of it, "local" heeds the device and the door alone.

    Raises:
        ValueError: there is no such runtime, or this machine lacks the device.
    """
    deployment = deployment or Deployment()
    if deployment.address is None:
        choose_device(deployment.device)  # the machines of a cluster may have what this one lacks
    if name == "local":
        from heal.agents.local_runtime import LocalRuntime

        here = choose_device(deployment.device)
        runtime = LocalRuntime(alliance, source, types_of, network, options, tolerant=True, device=here)
        if deployment.door is not None:
            runtime.open_door(deployment.door)
        return runtime
    if name == "ray":
        from heal.agents.on_ray.runtime import RayRuntime

        return RayRuntime(alliance, source, types_of, network, options, deployment)
    raise UserError(f"unknown runtime {name!r}; there are local, ray")
