"""A headless browser for tests of what a page shows."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from heal.types import UInt8

SIZE_PX = {"width": 1600, "height": 1000}
# The CPU renders the page, and the browser resolves no host but this machine.
FLAGS = (
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_S, BETWEEN_S = 300.0, 2.0


def find_browser() -> str:
    """Return the path of a Chromium browser; skip the test if there is no browser or no playwright."""
    pytest.importorskip("playwright.sync_api", reason="playwright, which controls the browser, is not installed")
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser is installed; looked for {', '.join(BROWSERS)}")
    return path


def screenshot(address: str, ready: Callable[[UInt8], bool], browser: str) -> UInt8:
    """Open a page and take screenshots until one is ready and equals the one before, or until `PATIENCE_S` is over.

    Args:
        address: address of the page.
        ready: whether an RGB image (H, W, 3) of the page shows everything that the test expects.
        browser: path of the browser.

    Returns:
        The last screenshot, an RGB image (H, W, 3).
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=list(FLAGS))
        page = opened.new_page(viewport=SIZE_PX, color_scheme="light")  # as of a system whose pages are light
        page.goto(address)
        ends = time.monotonic() + PATIENCE_S
        before: UInt8 | None = None
        while True:
            shot = page.screenshot(timeout=PATIENCE_S * 1e3)
            image: UInt8 = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))
            rests = before is not None and float((image != before).mean()) < 1e-3
            if (rests and ready(image)) or time.monotonic() > ends:
                opened.close()
                return image
            before = image
            time.sleep(BETWEEN_S)


def pixels_like(image: UInt8, color: str, tolerance: int = 24) -> int:
    """Count the pixels of an RGB image (H, W, 3) that differ from a colour such as "#3fb950" by at most `tolerance` per channel."""
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(image.astype(np.int16) - wanted).max(axis=2) <= tolerance).sum())
