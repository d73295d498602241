"""``python -m tests.fuzz``: a campaign, a case again, or a corpus made anew."""

import argparse
import json
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from .campaign import Failure, campaign, judge  # noqa: E402
from .corpus import remake  # noqa: E402


def main() -> int:
    """Returns 1 where something failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1e9, help="how long")
    parser.add_argument("--inputs", type=int, default=1 << 50, help="how many")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--failures", type=Path, default=Path("build/fuzz"), help="a folder")
    parser.add_argument("--replay", type=Path, help="a file from there")
    parser.add_argument("--remake-corpus", action="store_true", help="for another format version")
    arguments = parser.parse_args()
    if arguments.remake_corpus:
        print(f"{remake()} inputs")
        return 0
    if arguments.replay:
        return _replay(Failure(**json.loads(arguments.replay.read_text())))
    summary = campaign(
        arguments.seed,
        arguments.jobs,
        arguments.failures,
        inputs=arguments.inputs,
        seconds=arguments.seconds,
    )
    print(summary.table(), file=sys.stderr)
    print(summary)
    return int(any(summary.failures.values()))


def _replay(kept: Failure) -> int:
    """Run the case again; its input need not be the same where seeds or mutations are others."""
    error, failure = judge(kept.seed, kept.number)
    if failure is None:
        print(f"now it is {'taken' if error is None else f'refused: {error!r}'}")
        return 0
    if failure.input != kept.input:
        print("the input is another one", file=sys.stderr)
    print(f"{failure.what}\n{failure.details}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
