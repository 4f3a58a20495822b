"""LZF decompression, the scheme inside `binary_compressed` point clouds."""

from __future__ import annotations


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
                out += data[position + 1 : position + control + 2]
                position += control + 2
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
                raise ValueError("LZF stream points before its beginning")
            # A copy may overlap its own result: then the last `distance` bytes repeat.
            out += out[begin : begin + count] if count <= distance else (out[begin:] * (count // distance + 1))[:count]
            done += count
    except IndexError as error:
        raise ValueError(f"LZF stream ends after {len(out)} of {size} bytes") from error
    if len(out) != done or done > size:
        raise ValueError(f"LZF stream holds {len(out)} bytes where {size} were expected")
    return out
