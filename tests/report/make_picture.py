"""A picture of the top of a report: python tests/report/make_picture.py REPORT.html PICTURE.png [--prompt TEXT].

Needs Chromium and playwright (`make test-packages`, `make install`).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from browsing import CHROMIUM, FLAGS, LACKING, PATIENCE, Tab
from PIL import Image
from playwright.sync_api import sync_playwright

SIZE = {"width": 1080, "height": 1500}
COLOURS = 256
"""of the palette that keeps the file small"""


def main() -> None:
    """Open the report, choose a prompt, take the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--prompt", help="of the gallery")
    arguments = parser.parse_args()
    if LACKING:
        sys.exit(LACKING)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS), timeout=PATIENCE)
        tab = Tab(browser.new_context(viewport=SIZE, offline=True, color_scheme="light").new_page())
        tab.open(arguments.report.resolve())
        if arguments.prompt:
            tab.page.locator("#prompt").select_option(label=arguments.prompt)
        tab.until("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
        tab.page.screenshot(path=arguments.picture)
        browser.close()
    with Image.open(arguments.picture) as shot:
        small = shot.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(arguments.picture, optimize=True)


if __name__ == "__main__":
    main()
