"""The envelope: its bytes as the documentation has them, its signature, and that nothing which was changed passes."""

from __future__ import annotations

import hashlib
import itertools
import struct
import tracemalloc

import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from heal.identity.envelope import ENVELOPE_BYTES, Envelope, EnvelopeError, is_enveloped, key_id_of, seal
from heal.identity.keys import public_key_of

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = public_key_of(KEY)
MESSAGE = bytes(range(100))
SEALED = seal(MESSAGE, KEY, 7, -5)
# Secret key, public key, message and signature of RFC 8032, section 7.1, tests 1 to 3.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


def read_as_documented(data: bytes, public_key: bytes) -> tuple[bytes, int, int]:
    """Return message, sequence number and time of signing, by docs/message.md alone; an error if they are forged."""
    assert data[:4] == b"HSIG"
    version, algorithm = struct.unpack_from("<HH", data, 4)
    assert (version, algorithm) == (1, 1)
    assert data[8:24] == hashlib.sha256(public_key).digest()[:16]
    sequence, signed_ns, length = struct.unpack_from("<QqQ", data, 24)
    message = data[144:]
    assert length == len(message)
    Ed25519PublicKey.from_public_bytes(public_key).verify(data[80:144], data[:80])
    assert data[48:80] == hashlib.sha256(message).digest()
    return message, sequence, signed_ns


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032)
def test_the_library_signs_as_the_standard_says(secret: str, public: str, message: str, signature: str) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret))
    assert public_key_of(key).hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature


@given(message=st.binary(max_size=300), sequence=st.integers(0, 2**64 - 1), signed_ns=st.integers(-(2**63), 2**63 - 1))
def test_an_envelope_is_read_by_us_and_by_the_documentation(message: bytes, sequence: int, signed_ns: int) -> None:
    data = seal(message, KEY, sequence, signed_ns)
    envelope = Envelope.of(data)
    assert len(data) == len(message) + ENVELOPE_BYTES == len(message) + 144 and is_enveloped(data)
    assert (envelope.key_id, envelope.sequence, envelope.signed_ns) == (key_id_of(PUBLIC), sequence, signed_ns)
    assert envelope.message == message and envelope.is_signed_by(PUBLIC)
    assert read_as_documented(data, PUBLIC) == (message, sequence, signed_ns)


def test_an_array_is_read_without_a_copy() -> None:
    """Ray hands on arrays, whose bytes are the memory of the object store."""
    received = np.frombuffer(SEALED, np.uint8)
    envelope = Envelope.of(received)
    assert envelope.is_signed_by(PUBLIC) and envelope.message.readonly
    assert np.shares_memory(np.frombuffer(envelope.message, np.uint8), received)


def test_no_bit_can_be_flipped() -> None:
    for at, bit in itertools.product(range(len(SEALED)), range(8)):
        data = bytearray(SEALED)
        data[at] ^= 1 << bit
        try:
            envelope = Envelope.of(data)
        except EnvelopeError:
            continue
        assert not (envelope.is_signed_by(PUBLIC) and envelope.key_id == key_id_of(PUBLIC)), f"bit {bit} of byte {at}"
        with pytest.raises((InvalidSignature, AssertionError)):
            read_as_documented(bytes(data), PUBLIC)


def test_another_key_has_not_signed_it() -> None:
    other = public_key_of(Ed25519PrivateKey.generate())
    envelope = Envelope.of(SEALED)
    assert not envelope.is_signed_by(other) and not envelope.is_signed_by(bytes(32)) and envelope.is_signed_by(PUBLIC)
    assert not envelope.is_signed_by(other)  # also when asked again


@given(data=st.binary(max_size=400), magic=st.sampled_from([b"", b"HSIG", b"HSIG\1\0\1\0"]))
def test_any_bytes_are_an_envelope_or_the_named_error(data: bytes, magic: bytes) -> None:
    try:
        envelope = Envelope.of(magic + data)
    except EnvelopeError:
        return
    assert not envelope.is_signed_by(PUBLIC)


@pytest.mark.parametrize("length", [0, 1, len(MESSAGE) - 1, len(MESSAGE) + 1, 2**32, 2**63, 2**64 - 1])
def test_a_wrong_length_is_refused_and_nothing_is_allocated_for_it(length: int) -> None:
    data = SEALED[:40] + struct.pack("<Q", length) + SEALED[48:]
    tracemalloc.start()
    try:
        with pytest.raises(EnvelopeError, match=f"of {length} bytes: {len(MESSAGE)} bytes follow"):
            Envelope.of(data)
        assert tracemalloc.get_traced_memory()[1] < 20_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "truncated envelope: expected at least 144 bytes, got 0"),
        (SEALED[:143], "truncated envelope"),
        (b"HEAL" + SEALED[4:], "not an envelope"),
        (SEALED[:4] + b"\2" + SEALED[5:], "version 2 and algorithm 1"),
        (SEALED[:6] + b"\2" + SEALED[7:], "version 1 and algorithm 2"),
        (SEALED + b"\0", "100 bytes: 101 bytes follow"),
    ],
)
def test_what_is_no_envelope_is_named(data: bytes, expected: str) -> None:
    with pytest.raises(EnvelopeError, match=expected):
        Envelope.of(data)
