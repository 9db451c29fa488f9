"""Open a sweep's report.html in a real browser: light and dark, 1280 and 390 pixels wide.

``python -m bench.look multirun/<date>/<sweep>/report.html pictures`` writes ``wide-light.png`` and three more into the
folder, and ends with 1 where the page's script complains. It wants Chromium (``apt-get install chromium``). Tests of a
report read what the page is made of; :func:`elements` is for pages that others' scripts draw, MLflow's.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--disable-background-networking", "--no-first-run", "--enable-logging=stderr"),
)
_DARK = "--blink-settings=preferredColorScheme=0"
_PHONE, _LAPTOP = 390, 1280
_NARROWEST = 500  # a window of Chromium's; what is narrower is a frame in it
_LIMIT_S = 120


def main(words: list[str] | None = None) -> int:
    """Take the pictures; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.look", description=__doc__)
    parser.add_argument("page", type=Path, help="a report.html")
    parser.add_argument("folder", type=Path, help="where pictures go")
    parser.add_argument("--height", type=int, default=3000, help="pixels of the page that are shown (3000)")
    options = parser.parse_args(words)
    program = browser()
    if program is None:
        sys.stderr.write(f"no browser: looked for {', '.join(_PROGRAMS)}; apt-get install chromium brings one\n")
        return 2
    options.folder.mkdir(parents=True, exist_ok=True)
    said = []
    for name, width in (("wide", _LAPTOP), ("phone", _PHONE)):
        for tone, flags in (("light", ()), ("dark", (_DARK,))):
            target = options.folder.absolute() / f"{name}-{tone}.png"
            said += _shown(program, options.page.absolute(), target, (width, options.height), flags)
            print(target)
    sys.stderr.write("".join(f"{line}\n" for line in said))
    return 1 if said else 0


def browser() -> str | None:
    """The path of a Chromium; null where there is none."""
    return next(filter(None, map(shutil.which, _PROGRAMS)), None)


def elements(program: str, address: str, size: tuple[int, int], patience_ms: int = 60_000) -> str:
    """A page as HTML, once its script has drawn what it shows.

    Args:
        program: Of :func:`browser`.
        address: The page's.
        size: Of the window, in pixels.
        patience_ms: How long the page's own clock runs; it waits for answers from the network, and then runs fast.
    """
    with tempfile.TemporaryDirectory() as profile:
        told = (f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}")
        line = [program, *_FLAGS, *told, f"--virtual-time-budget={patience_ms}", "--dump-dom", address]
        ran = subprocess.run(line, capture_output=True, text=True, check=True, timeout=_LIMIT_S, errors="replace")
    return ran.stdout


def _shown(program: str, page: Path, target: Path, size: tuple[int, int], flags: tuple[str, ...]) -> list[str]:
    """What the page's script complained of."""
    width, height = size
    with tempfile.TemporaryDirectory() as scratch:
        frame = Path(scratch) / "frame.html"
        inside = f"<iframe src='{page.as_uri()}' style='width:{width}px;height:{height}px;border:0'></iframe>"
        frame.write_text(f"<body style='margin:0'>{inside}")
        window = f"--window-size={max(width, _NARROWEST)},{height}"
        line = [program, *_FLAGS, *flags, f"--user-data-dir={scratch}/profile", window, f"--screenshot={target}"]
        ran = subprocess.run(
            [*line, frame.as_uri()], capture_output=True, text=True, check=True, timeout=_LIMIT_S, errors="replace"
        )
    return [text for text in ran.stderr.splitlines() if "CONSOLE" in text]


if __name__ == "__main__":
    sys.exit(main())
