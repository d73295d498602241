"""``python -m nczip``."""

from nczip.cli import main

main()
