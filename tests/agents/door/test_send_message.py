"""The sender in C, written from docs/message.md and Zenoh's protocol alone: what it sends comes through the door, and is used."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest
import torch

from heal.agents.deployment import Deployment
from heal.agents.door.clock import Clock
from heal.agents.door.gateway import Gateway
from heal.agents.door.intake import Awaited
from heal.agents.door.options import DoorOptions
from heal.agents.door.topics import message_topic
from heal.agents.network.network import PerfectNetwork
from heal.agents.runtime import open_runtime
from heal.tools.benches.door import free_endpoint
from tests.agents.door.following import messages_of
from tests.agents.door.messages import message
from tests.agents.door.test_outside_run import ALL_TYPES, FACTS, RUN, SOURCE, without_c
from tests.agents.tiny_run import TinyAlliance

ROOT = Path(__file__).resolve().parents[3]
CLOCK = Clock(os.urandom(16), FACTS)
pytest.importorskip("zenoh")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (cc)")
    built = tmp_path_factory.mktemp("c") / "send_message"
    subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", "-o", built, ROOT / "docs" / "send_message.c"], check=True)
    return built


@contextmanager
def sending(program: Path, endpoint: str, agent_id: str, content: Path, times: int) -> Iterator[None]:
    """Let the program send a file beside the block, ten times a second."""
    host, port = endpoint.removeprefix("tcp/").split(":")
    process = subprocess.Popen([program, host, port, message_topic("run", agent_id), content, str(times), "100"])
    try:
        yield
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("size", ["in one frame", "in fragments"])
def test_the_bytes_come_as_they_were_sent(program: Path, size: str, tmp_path: Path) -> None:
    content = message("recorded", channels=100 if size == "in fragments" else 2)
    assert (len(content) > 65_535) == (size == "in fragments")
    (tmp_path / "recorded").write_bytes(content)
    gateway = Gateway(DoorOptions(listen=free_endpoint()), FACTS)
    try:
        with sending(program, gateway.options.listen, "recorded", tmp_path / "recorded", 1):
            taken = gateway.take(Awaited(monotonic() + 60, agents=1))
    finally:
        gateway.close()
    assert [one.payload for one in taken.messages] == [content] and not taken.turned_away


def test_a_recorded_message_takes_part_in_a_run(program: Path, tmp_path: Path) -> None:
    [content] = messages_of(TinyAlliance(), SOURCE, "m2", "c", RUN)(CLOCK)
    (tmp_path / "recorded").write_bytes(content)
    settings = DoorOptions(listen=free_endpoint(), agents=1, first_wait_s=60)
    parts = TinyAlliance(), SOURCE, without_c, PerfectNetwork(), RUN, Deployment(door=settings)
    with open_runtime("local", *parts) as runtime, sending(program, settings.listen, "c", tmp_path / "recorded", 20):
        [first] = runtime.run([0])
        # The others come after the tick, and harm nobody.
    with open_runtime("local", TinyAlliance(), SOURCE, ALL_TYPES, PerfectNetwork(), RUN) as runtime:
        [inside] = runtime.run([0])
    assert [(record.agent_id, record.status) for record in first.messages] == [("ego", "used"), ("b", "used"), ("c", "used")]
    assert torch.equal(first.detections.corners, inside.detections.corners)
