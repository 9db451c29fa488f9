"""One command: fetch the drawings, write the style datasets, train the base, export it, draw its contact sheet."""

import argparse
import sys
from pathlib import Path

from recipes.tiny_sd.fetch import FetchError
from recipes.tiny_sd.stages import STAGES, Recipe


def main() -> int:
    """Run the chosen stages in order; run it again after a kill and it goes on where it was.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m recipes.tiny_sd", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(".cache/tiny_sd"), help="downloads, checkpoints, log")
    parser.add_argument("--assets", type=Path, default=Path("assets"), help="where the results go")
    parser.add_argument("--stage", choices=("all", *STAGES), default="all")
    parser.add_argument("--minutes", type=float, default=82.0, help="training minutes of the diffusion stage")
    parser.add_argument("--vae-minutes", type=float, default=15.5, help="training minutes of the autoencoder")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    chosen = parser.parse_args()
    recipe = Recipe(
        work=chosen.work,
        assets=chosen.assets,
        minutes=chosen.minutes,
        vae_minutes=chosen.vae_minutes,
        threads=chosen.threads,
    )
    try:
        recipe.run(STAGES if chosen.stage == "all" else (chosen.stage,))
    except FetchError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
