"""Write the sample product from a shell: ``python -m differnet.images.synthetic FOLDER``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from differnet.images.synthetic.parts import SyntheticError
from differnet.images.synthetic.product import make_sample_product, make_small_sample


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the folder that is asked for.

    Args:
        arguments: What stands behind the command; ``None`` takes the process's own.

    Returns:
        0, or 1 when the folder could not be made.
    """
    parser = argparse.ArgumentParser(prog="python -m differnet.images.synthetic", description=__doc__)
    parser.add_argument("folder", type=Path, help="where to write")
    parser.add_argument(
        "--small", action="store_true", help="the few JPEG pictures that travel with the source"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the whole product (default 0)")
    chosen = parser.parse_args(arguments)
    make = make_small_sample if chosen.small else make_sample_product
    try:
        folder = make(chosen.folder, seed=chosen.seed, progress=_show)
    except SyntheticError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{folder}\n")
    return 0


def _show(done: int, total: int) -> None:
    sys.stderr.write(f"\r{done} of {total} pictures" + ("\n" if done == total else ""))


if __name__ == "__main__":
    sys.exit(main())
