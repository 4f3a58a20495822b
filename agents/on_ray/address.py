"""The address of a running cluster, checked before Ray is given it: where none answers, Ray would try for minutes or for ever."""

from __future__ import annotations

import os
import socket

from ray._private.services import canonicalize_bootstrap_address_or_die

from heal.errors import UserError

ANSWER_S = 5.0
# How a client of HTTP/2 begins: a fixed text and an empty frame with its settings. A server of HTTP/2, as Ray's are, answers with a
# frame of its own settings, whose fourth byte is 4.
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_REMEDY = "start a cluster by `ray start --head`, or leave --address out to start a Ray for this run"


def find_cluster(address: str) -> str:
    """Return HOST:PORT of the running cluster at an address.

    Args:
        address: "auto" for the cluster of this machine, or HOST:PORT.

    Raises:
        UserError: the address is of another kind, or no cluster answers there.
    """
    if "://" in address:
        raise UserError(f"address {address!r}: expected auto, or HOST:PORT of a cluster that this machine is part of; {_REMEDY}")
    try:
        found: str = canonicalize_bootstrap_address_or_die(address)
        host, _, port = found.rpartition(":")
        number = int(port)
    except ConnectionError as error:
        several = "multiple" in str(error)
        raise UserError(
            f"several Ray clusters run on this machine, give the HOST:PORT of one: {error}"
            if several
            else f"no Ray cluster at {address}: {_REMEDY}"
        ) from error
    except (ValueError, OSError) as error:
        raise UserError(f"address {address!r}: expected auto, or HOST:PORT such as ray-head:6379") from error
    reason = why_silent(host.strip("[]"), number)
    if reason is not None:
        named = address if address in found else f"{address} ({found})"
        raise UserError(f"nothing answers as a Ray cluster at {named}: {reason}; {_REMEDY}")
    return found


def why_silent(host: str, port: int) -> str | None:
    """Return why nothing answers at a port as a server of Ray does; None if something does."""
    try:
        with socket.create_connection((host, port), timeout=ANSWER_S) as link:
            if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
                return None
            link.sendall(_GREETING)
            answer = link.recv(9)
    except TimeoutError:
        return f"no answer within {ANSWER_S:g} s"
    except (OSError, OverflowError) as error:
        return str(error)
    return None if answer[3:4] == b"\x04" else "another program listens there"
