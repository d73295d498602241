"""Nacrith's command line under a GGUF of our choice.

    python -m nczip.bench.nacrith CHECKOUT GGUF compress|decompress IN OUT

Its own has no option for the model: it takes one that lies in the checkout under a name of its.
"""

import runpy
import sys
from pathlib import Path


def main(checkout: str, model: str, *arguments: str) -> None:
    """Run it in this process."""
    sys.path.insert(0, checkout)
    import model_wrapper  # type: ignore[import-not-found]

    model_wrapper.ModelWrapper._find_gguf = lambda self: model
    sys.argv = [str(Path(checkout, "cli.py")), *arguments]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
