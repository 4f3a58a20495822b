"""LZF decompression, the scheme inside `binary_compressed` point clouds."""

from __future__ import annotations


def lzf_decompress(data: bytes, size: int, wanted: int | None = None) -> bytearray:
    """Decompress an LZF stream.

    A point cloud is stored field after field, so a reader that wants only the first fields can stop early.

    Args:
        data: the compressed stream.
        size: its length when decompressed, bytes.
        wanted: stop once this many bytes are there; all by default.

    Returns:
        At least `wanted` bytes.

    Raises:
        ValueError: if the stream ends early, points before its own beginning, or does not yield `size` bytes.
    """
    goal = size if wanted is None else min(wanted, size)
    out = bytearray()
    done = position = 0
    try:
        while done < goal:
            control = data[position]
            if control < 32:
                position += control + 2
                out += data[position - control - 1 : position]
                done += control + 1
                continue
            count = (control >> 5) + 2
            if count == 9:
                position += 1
                count += data[position]
            distance = ((control & 31) << 8 | data[position + 1]) + 1
            position += 2
            begin = done - distance
            if begin < 0:
                raise ValueError(f"LZF stream points {-begin} bytes before its beginning")
            # A copy may overlap its own result: then the last `distance` bytes repeat.
            out += out[begin : begin + count] if count <= distance else (out[begin:] * (count // distance + 1))[:count]
            done += count
    except IndexError as error:
        raise ValueError(f"LZF stream ends after {len(out)} of {size} bytes") from error
    if len(out) != done or done > size:
        raise ValueError(f"LZF stream holds {len(out)} bytes where {size} were expected")
    return out
