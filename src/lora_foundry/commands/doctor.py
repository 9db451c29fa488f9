"""Look at this machine: torch, driver, cards, MLflow, disk and caches, what is wrong and how to mend it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from lora_foundry.config.called import command_line
from lora_foundry.config.ending import INTERRUPTED
from lora_foundry.config.parse import ConfigError
from lora_foundry.config.surroundings import settle
from lora_foundry.launch.records.finding import add_root

OK, DOES_NOT_WORK, WRONG_INPUT = 0, 1, 2


def main(words: list[str] | None = None) -> int:
    """Say what a training would meet here; 0 when it would begin, 1 when not, 2 for wrong words."""
    settle()
    parser = argparse.ArgumentParser(prog=command_line("doctor"), description=__doc__)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=f"as for {command_line('train')}")
    add_root(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_intermixed_args(words)
    from hydra.errors import HydraException

    from lora_foundry.doctor.examining import examined
    from lora_foundry.launch.points.offline import compose_with_settings
    from lora_foundry.wiring.preflight import LOOKS

    try:
        points, settings = compose_with_settings(options.overrides)
        if len(points) > 1:
            sys.stderr.write(f"got {len(points)} points, allowed is one: what of them differs is no matter here\n")
            return WRONG_INPUT
        report = examined(points[0].config, settings, options.root, LOOKS)
    except (ConfigError, HydraException) as error:
        sys.stderr.write(f"{error}\n")
        return WRONG_INPUT
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        return INTERRUPTED
    if options.json:
        print(json.dumps(asdict(report), indent=1))
    else:
        from lora_foundry.doctor.screen import show

        show(report)
    return OK if report.works else DOES_NOT_WORK
