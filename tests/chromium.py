"""The browser that tests open pages in, where there is one."""

from __future__ import annotations

import shutil

from gpt2onnx.compare.runtimes.places import BROWSERS

CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
HEADLESS = (
    *("--headless", "--no-sandbox", "--disable-gpu"),
    *("--disable-background-networking", "--no-first-run"),
)
