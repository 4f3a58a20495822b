"""Addresses at which no cluster answers are refused at once, in one line with the remedy; Ray would try for minutes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from heal.agents.on_ray import address as addresses
from heal.agents.on_ray.address import find_cluster, why_silent
from heal.errors import UserError

SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Listen on a port of this machine, and treat the first client with `answer`."""

    def serve() -> None:
        link, _ = listening.accept()
        with link:
            link.recv(100)
            answer(link)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listening.getsockname()[1])
        thread.join()


@pytest.mark.parametrize("given", ["ray://127.0.0.1:1", "http://127.0.0.1:8265", "foo", "", "foo:bar"])
def test_an_address_of_another_kind_is_refused(given: str) -> None:
    with pytest.raises(UserError, match=r"expected auto, or HOST:PORT") as caught:
        find_cluster(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", ["127.0.0.1:1", "nohost.invalid:6379"])
def test_a_dead_address_is_refused_at_once(given: str) -> None:
    began_s = time.monotonic()
    with pytest.raises(UserError, match=rf"nothing answers as a Ray cluster at {given}.*ray start --head"):
        find_cluster(given)
    assert time.monotonic() - began_s < 30


def test_auto_without_a_cluster_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(given: str) -> str:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(addresses, "canonicalize_bootstrap_address_or_die", none)
    with pytest.raises(UserError, match="no Ray cluster at auto: start a cluster by `ray start --head`"):
        find_cluster("auto")


def test_only_a_server_that_speaks_as_ray_does_is_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(lambda link: link.sendall(SETTINGS)) as port:
        assert why_silent("127.0.0.1", port) is None
    with server(lambda link: link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        assert why_silent("127.0.0.1", port) == "another program listens there"
    with server(lambda link: None) as port:
        assert why_silent("127.0.0.1", port) == "another program listens there"
    monkeypatch.setattr(addresses, "ANSWER_S", 0.1)
    with server(lambda link: time.sleep(0.3)) as port:
        assert why_silent("127.0.0.1", port) == "no answer within 0.1 s"
