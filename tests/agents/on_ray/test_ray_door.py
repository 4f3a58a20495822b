"""The door as an actor: the actor's death costs what had come, and no more."""

from __future__ import annotations

from time import monotonic

import pytest
import ray

from heal.agents.door.clock import RunFacts
from heal.agents.door.connection import DoorConnection
from heal.agents.door.intake import Awaited
from heal.agents.door.options import DoorOptions
from heal.agents.on_ray.door import RayDoor
from heal.errors import UserError
from heal.tools.benches.door import free_endpoint
from tests.agents.door.messages import GRID, message

pytest.importorskip("zenoh")
pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]
FACTS = RunFacts("f00d", "feature", GRID)


def soon(seconds: float) -> Awaited:
    return Awaited(monotonic() + seconds, agents=1)


def test_messages_come_as_references_and_a_dead_gateway_listens_again() -> None:
    door = RayDoor(DoorOptions(listen=free_endpoint()), FACTS)
    with DoorConnection(door.options.listen, "run", "a") as connection:
        door.announce(3, 300, ["ego"])
        clock = connection.next_clock(None, 60.0)
        assert clock is not None and (clock.tick, clock.timestamp_ns, clock.facts) == (3, 300, FACTS)
        connection.send(message())
        [one] = door.take(soon(30)).messages
        assert bytes(ray.get(one.payload)) == message()
        ray.kill(door._actor, no_restart=False)
        for _ in range(60):
            connection.send(message())
            if taken := door.take(soon(1)).messages:
                break
        assert [one.agent_id for one in taken] == ["a"]
        with pytest.raises(UserError, match="in use"):
            RayDoor(door.options, FACTS)
    door.close()
    door.close()  # a second time has nothing left to do


def test_a_door_whose_actor_does_not_answer_lets_the_run_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    door = RayDoor(DoorOptions(listen=free_endpoint()), FACTS)
    ray.kill(door._actor)
    assert not door.take(soon(0)).messages
