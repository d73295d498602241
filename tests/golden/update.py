"""``python tests/golden/update.py``: write all that is pinned anew, for a change that is meant.

Then `git diff tests/golden` shows what the change did; it goes into the commit that made it.
"""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import golden_files as golden  # noqa: E402
from conftest import built_in, corpora_folder  # noqa: E402

from nczip.corpora import load_manifest  # noqa: E402
from nczip.corpora.store import read  # noqa: E402


def main() -> None:
    """Write streams.json, and sizes.json where the corpora are."""
    streams = {name: golden.describe_stream(name) for name in golden.STREAMS}
    portable = {"sha256": golden.portable_hash()}
    logits = {"sha256": golden.logits_hash(built_in("exact"))}
    golden.pin("streams", streams | {"stream_hash.py": portable, "logits": logits})
    folder = corpora_folder()
    if not folder.is_dir():
        print(f"no evaluation corpora at {folder}: sizes.json stays as it is", file=sys.stderr)
        return
    sizes = golden.pinned("sizes")
    for path, entry in sizes.items():
        file = load_manifest().file(path)
        assert file is not None, path
        entry["bytes"] = golden.sizes_of(read(file, folder)[: entry["head"]])
    golden.pin("sizes", sizes)


if __name__ == "__main__":
    main()
