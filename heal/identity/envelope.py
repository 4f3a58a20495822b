"""The envelope of a signed message: who signs, when, and the digest of the message, with a signature; the message follows it.

Little-endian; docs/message.md describes it for other languages:

    offset  size  field
    0       4     magic "HSIG"
    4       2     version of the envelope
    6       2     algorithm: 1 = Ed25519 over a header with the SHA-256 of the message
    8       16    key id: the first bytes of the SHA-256 of the public key
    24      8     sequence number
    32      8     time of signing, ns (signed)
    40      8     length of the message in bytes
    48      32    SHA-256 of the message
    80      64    signature of the bytes 0 to 80
    144     ...   the message
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from heal.message.header import Buffer, byte_view

MAGIC = b"HSIG"
ENVELOPE_VERSION = 1
ED25519 = 1
KEY_ID_BYTES = 16

_FIELDS = struct.Struct("<4sHH16sQqQ32s")
_SIGNATURE_BYTES = 64
ENVELOPE_BYTES = _FIELDS.size + _SIGNATURE_BYTES
"""By how much a signed message is longer than the message: 144 bytes."""


class EnvelopeError(ValueError):
    """Bytes that begin like an envelope and are none; the text names the expected and the received content."""


def key_id_of(public_key: bytes) -> bytes:
    """Return the 16 bytes by which envelopes name a public key of 32 bytes."""
    return hashlib.sha256(public_key).digest()[:KEY_ID_BYTES]


@dataclass(frozen=True, eq=False)
class Envelope:
    """An envelope as received. Nothing that it says is true before `is_signed_by`.

    Attributes:
        key_id: names the public key, 16 bytes.
        sequence: number of the message among those that are signed with the key; it grows from message to message.
        signed_ns: time of signing in nanoseconds, on the clock of the message's own time.
        message: the message, a read-only view of the received bytes.
        digest: the SHA-256 that the message is to have.
        head: the bytes that are signed.
        signature: of `head`.
    """

    key_id: bytes
    sequence: int
    signed_ns: int
    message: memoryview
    digest: bytes
    head: bytes
    signature: bytes
    _answers: dict[bytes, bool] = field(default_factory=dict, init=False, repr=False)

    @staticmethod
    def of(buffer: Buffer) -> Envelope:
        """Read an envelope. Nothing is allocated for the message, whose bytes are not looked at.

        Raises:
            EnvelopeError: the bytes are not an envelope of this version with a message of the declared length.
        """
        view = byte_view(buffer)
        if len(view) < ENVELOPE_BYTES:
            raise EnvelopeError(f"truncated envelope: expected at least {ENVELOPE_BYTES} bytes, got {len(view)}")
        magic, version, algorithm, key_id, sequence, signed_ns, length, digest = _FIELDS.unpack_from(view)
        if magic != MAGIC:
            raise EnvelopeError(f"not an envelope: expected the first bytes {MAGIC!r}, got {magic!r}")
        if (version, algorithm) != (ENVELOPE_VERSION, ED25519):
            raise EnvelopeError(
                f"envelope of version {version} and algorithm {algorithm}: this program reads {ENVELOPE_VERSION} and {ED25519}"
            )
        message = view[ENVELOPE_BYTES:]
        if length != len(message):
            raise EnvelopeError(f"envelope of a message of {length} bytes: {len(message)} bytes follow it")
        head, signature = bytes(view[: _FIELDS.size]), bytes(view[_FIELDS.size : ENVELOPE_BYTES])
        return Envelope(key_id, sequence, signed_ns, message, digest, head, signature)

    def is_signed_by(self, public_key: bytes) -> bool:
        """Return whether the owner of a public key of 32 bytes has signed this envelope and its message.

        The answer is computed once. The signature is checked first: of a forged envelope the message is not even hashed.
        """
        if public_key not in self._answers:
            self._answers[public_key] = self._is_signed_by(public_key)
        return self._answers[public_key]

    def _is_signed_by(self, public_key: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(self.signature, self.head)
        except InvalidSignature:
            return False
        return hashlib.sha256(self.message).digest() == self.digest


def is_enveloped(buffer: Buffer) -> bool:
    """Return whether bytes begin like an envelope."""
    return bytes(byte_view(buffer)[: len(MAGIC)]) == MAGIC


def seal(message: bytes, private_key: Ed25519PrivateKey, sequence: int, signed_ns: int) -> bytes:
    """Return a message in a signed envelope.

    Args:
        message: the message, which is not looked at.
        private_key: signs.
        sequence: from 0 to 2^64 - 1; a receiver takes every number once.
        signed_ns: time of signing in nanoseconds, on the clock of the message's own time.
    """
    key_id, digest = key_id_of(private_key.public_key().public_bytes_raw()), hashlib.sha256(message).digest()
    head = _FIELDS.pack(MAGIC, ENVELOPE_VERSION, ED25519, key_id, sequence, signed_ns, len(message), digest)
    return b"".join([head, private_key.sign(head), message])
