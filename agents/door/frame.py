"""The first look at bytes that a stranger has sent: magic and length, and what the header claims, without decoding anything."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from heal.identity.envelope import ENVELOPE_BYTES
from heal.identity.envelope import MAGIC as ENVELOPE_MAGIC
from heal.message.header import MAGIC

# The forms of bytes that pass this look, by their first four bytes, and where the message begins in each. Which of them the run
# takes, and whether the rest is right, such as the signature of an envelope, is checked later.
FORMS: Mapping[bytes, int] = {MAGIC: 0, ENVELOPE_MAGIC: ENVELOPE_BYTES}

_HEADER_BYTES, _PAYLOAD_BYTES = struct.Struct("<I"), struct.Struct("<Q")
_HEADER_BYTES_AT, _PAYLOAD_BYTES_AT, _TIME_AT, _MAPS_AT, _LENGTHS_AT, _STRINGS_AT = 8, 16, 24, 241, 242, 248
_TIME, _LENGTHS = struct.Struct("<q"), struct.Struct("<3H")
_SHAPE_BYTES = 12


@dataclass(frozen=True)
class Claims:
    """What the header of a message claims; none of it has been checked.

    Attributes:
        agent_type: the sender's type.
        timestamp_ns: the time of the measurements.
    """

    agent_type: str
    timestamp_ns: int


def claims_of(content: bytes) -> Claims | None:
    """Return what a message claims; None for bytes that are no message by their magic or by their length.

    The cost does not depend on the length of the bytes, and nothing is allocated by the lengths that they state.
    """
    start = FORMS.get(content[:4])
    if start is None or len(content) < start + _STRINGS_AT or content[start : start + 4] != MAGIC:
        return None
    [header_bytes] = _HEADER_BYTES.unpack_from(content, start + _HEADER_BYTES_AT)
    [payload_bytes] = _PAYLOAD_BYTES.unpack_from(content, start + _PAYLOAD_BYTES_AT)
    if start + header_bytes + payload_bytes != len(content):
        return None
    id_bytes, type_bytes, _ = _LENGTHS.unpack_from(content, start + _LENGTHS_AT)
    type_at = start + _STRINGS_AT + _SHAPE_BYTES * content[start + _MAPS_AT] + id_bytes
    [timestamp_ns] = _TIME.unpack_from(content, start + _TIME_AT)
    return Claims(content[type_at : type_at + type_bytes].decode(errors="replace"), timestamp_ns)
