"""The folder of a training that is told when to finish: what lies in it.

- run.json: the settings
- checkpoint.pt: weights, optimiser, steps done; replaced every few minutes
- finish.json: that the rate shall decay: for how many steps, and from which on
- plateau.pt: the checkpoint from which the rate decayed: to decay again, or to go on from
- log.jsonl: loss, tokens, processor seconds, and now and then the loss of validation texts
- lock, pid: held and written by the process while it lives
- output.txt: what it printed, errors above all
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SETTINGS = "run.json"
CHECKPOINT = "checkpoint.pt"
FINISH = "finish.json"
PLATEAU = "plateau.pt"
LOG = "log.jsonl"
LOCK = "lock"
PID = "pid"
OUTPUT = "output.txt"


@dataclass(frozen=True)
class Settings:
    """What a training was started with."""

    data: str
    init: str
    batch_tokens: int
    rates: tuple[float, float]  # of Muon and AdamW
    warmup: int  # steps
    threads: int
    save_seconds: float
    bfloat16: bool
    compiled: bool

    @classmethod
    def read(cls, folder: Path) -> "Settings":
        found = json.loads((folder / SETTINGS).read_text())
        return cls(**found | {"rates": tuple(found["rates"])})

    def write(self, folder: Path) -> None:
        write_json(folder / SETTINGS, asdict(self))


@dataclass(frozen=True)
class Finish:
    """A decay of the rate over ``steps`` steps; the first is ``start``, None until it is known."""

    start: int | None
    steps: int

    @classmethod
    def read(cls, folder: Path) -> "Finish | None":
        """None where nobody has asked for a decay."""
        path = folder / FINISH
        return cls(**json.loads(path.read_text())) if path.is_file() else None

    def write(self, folder: Path) -> None:
        write_json(folder / FINISH, asdict(self))


def write_json(path: Path, value: Any) -> None:
    """Replace a file whole, for others may be reading it."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1) + "\n")
    part.replace(path)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The entries of a training's log, oldest first; those that a restart repeated, once."""
    path = folder / LOG
    lines = path.read_text().splitlines() if path.is_file() else []
    entries = {entry["step"]: entry for entry in map(json.loads, lines)}
    return [entries[step] for step in sorted(entries)]
