"""``python -m nczip.bench`` is ``nczip bench``."""

import sys

from nczip.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "bench")
    main()
