"""Tell the channels and bits of an image from its header, before any decoder converts them."""

from __future__ import annotations

from pathlib import Path

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGBA"}


def image_form(path: Path) -> str:
    """Return the channels and bits of a PNG or JPEG image, such as "RGB of 8 bits"."""
    with path.open("rb") as file:
        header = file.read(26)
    if header.startswith(_PNG) and len(header) == 26:
        return f"{_PNG_CHANNELS.get(header[25], 'unknown')} of {header[24]} bits"
    from PIL import Image

    with Image.open(path, formats=("PNG", "JPEG")) as image:
        return f"{'grey' if image.mode == 'L' else image.mode} of 8 bits"
