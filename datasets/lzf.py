"""LZF decompression, the scheme inside `binary_compressed` point clouds."""

from __future__ import annotations

# By control byte: how many bytes it copies, and the distance that its low bits are the upper half of. A cloud has a hundred
# thousand of them, and looking up takes a sixth less time than computing.
_COUNTS = tuple((control >> 5) + 2 for control in range(256))
_DISTANCES = tuple(((control & 31) << 8) + 1 for control in range(256))


def lzf_decompress(data: bytes, size: int, wanted: int | None = None) -> bytearray:
    """Decompress an LZF stream, or only its beginning: a cloud is stored field after field.

    Args:
        data: the compressed stream.
        size: its length in bytes when decompressed.
        wanted: stop once so many bytes are there.

    Raises:
        ValueError: if the stream is damaged.
    """
    goal = size if wanted is None else min(wanted, size)
    out = bytearray()
    done = position = 0
    try:
        while done < goal:
            control = data[position]
            if control < 32:
                end = position + control + 2
                out += data[position + 1 : end]
                position = end
                done += control + 1
                continue
            count = _COUNTS[control]
            if count == 9:
                position += 1
                count += data[position]
            distance = _DISTANCES[control] + data[position + 1]
            position += 2
            begin = done - distance
            if begin < 0:
                raise ValueError("LZF stream points before its beginning")
            # A copy may overlap its own result: then the last `distance` bytes repeat.
            out += out[begin : begin + count] if count <= distance else (out[begin:] * (count // distance + 1))[:count]
            done += count
    except IndexError as error:
        raise ValueError(f"LZF stream ends after {len(out)} of {size} bytes") from error
    if len(out) != done or done > size:
        raise ValueError(f"LZF stream holds {len(out)} bytes where {size} were expected")
    return out
