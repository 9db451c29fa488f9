"""``make bench``: every bench in a process of its own, then docs/benchmarks.md."""

from __future__ import annotations

import argparse
import subprocess
import sys

from bench import PROJECT_ROOT, kohya, render
from bench.example import add_options

WITH_EXAMPLE = {"sweep", "one_job", "real_size"}
WITH_KOHYA = {"real_size"}
NO_CARD = 2  # what bench.device ends with where there is none: nothing failed


def main() -> int:
    """Run the benches; 1 when one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short look at each")
    parser.add_argument("--only", nargs="+", choices=render.ORDER, default=render.ORDER, help="these alone")
    add_options(parser)
    kohya.add_options(parser)
    options = parser.parse_args()
    failed = []
    for name in options.only:
        command = [sys.executable, "-m", f"bench.{name}"] + ["--quick"] * options.quick
        if name in WITH_EXAMPLE and options.example:
            command += ["--example", str(options.example.resolve())]
            if options.example_packages:
                command += ["--example-packages", str(options.example_packages.resolve())]
        if name in WITH_KOHYA and options.kohya:
            command += ["--kohya", str(options.kohya.resolve())]
            if options.kohya_packages:
                command += ["--kohya-packages", str(options.kohya_packages.resolve())]
        print(f"\n== {name}", flush=True)
        code = subprocess.run(command, cwd=PROJECT_ROOT, check=False).returncode
        if code and not (name == "device" and code == NO_CARD):
            failed.append(name)
    render.main()
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
