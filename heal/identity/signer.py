"""An agent's side of identity: sign every message with the agent's private key, and never use a sequence number twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from heal.identity.envelope import seal
from heal.identity.file_stamp import FileStamp
from heal.identity.keys import private_key_path, read_private_key


class Signer:
    """Signs the messages of one agent.

    Sequence numbers are times: the Unix time in nanoseconds, or the last number plus 1 if that is larger. So an agent that is
    started again goes on above all numbers that it has used, without a file.
    """

    def __init__(self, folder: Path, agent_id: str, clock_ns: Callable[[], int] = time.time_ns) -> None:
        """Sign with the private key of an agent in a folder of keys, which is read at the first message.

        Args:
            folder: of the keys, as `heal keys new` makes it.
            agent_id: the agent.
            clock_ns: the Unix time in nanoseconds.
        """
        self._path, self._clock_ns = private_key_path(folder, agent_id), clock_ns
        self._stamp: FileStamp | None = None
        self._key: Ed25519PrivateKey | None = None
        self._last = -1

    def sign(self, message: bytes, signed_ns: int) -> bytes:
        """Return a message in a signed envelope; the message as it is if the agent has no private key.

        The key is read again when its file has changed, so that a running agent takes part in a roll-over.

        Args:
            message: of any content.
            signed_ns: time of signing in nanoseconds, on the clock of the message's own time.

        Raises:
            UserError: the file is no private key, or others than its owner can read it.
        """
        stamp = FileStamp.of(self._path)
        if stamp != self._stamp:
            self._key = None if stamp is None else read_private_key(self._path)
            self._stamp = stamp
        if self._key is None:
            return message
        self._last = max(self._last + 1, self._clock_ns())
        return seal(message, self._key, self._last, signed_ns)
