"""What coding takes of a machine: memory and threads."""

import os
from dataclasses import dataclass

from nczip.coder.errors import LimitError
from nczip.predictors.primer import TABLE_BITS as PRIMED_TABLE_BITS
from nczip.predictors.table import LINE_BYTES
from nczip.presets import EngineName


@dataclass(frozen=True)
class Memory:
    """Bytes that decoding needs, but for what is small."""

    worker: int  #: for each block that is decoded at a time
    shared: int  #: the primer, and a block that waits to be fetched


def decoding_memory(
    table_bits: int, block_size: int, with_primer: bool, session_bytes: int = 0
) -> Memory:
    """What decoding the blocks of a member needs; ``session_bytes`` is what its engine says."""
    primed = LINE_BYTES << PRIMED_TABLE_BITS if with_primer else 0
    tables = LINE_BYTES << table_bits
    return Memory(tables + 3 * block_size + session_bytes, block_size + primed)


def check_memory(memory: Memory, limit: int) -> None:
    """Raise LimitError where decoding a block would need more than ``limit`` bytes."""
    need = memory.worker + memory.shared
    if need > limit:
        raise LimitError(
            f"decoding needs {need >> 20} MiB, more than the limit of {limit >> 20} MiB: "
            "raise it with --memory"
        )


def workers_within(memory: Memory, limit: int, wanted: int) -> int:
    """How many workers, of those wanted, the memory allows; one at least."""
    return max(1, min(wanted, (limit - memory.shared) // memory.worker))


def engine_threads(engine: EngineName, workers: int) -> int:
    """Threads for each worker's transformer.

    llama.cpp's threads spin while they wait, so the machine's cores are shared out; those of the
    exact engine give way after a while, and a file of one block keeps only one worker busy. Ray and
    batch systems say with OMP_NUM_THREADS how many cores a process has of a machine's.
    """
    cores = os.cpu_count() or 1
    granted = os.environ.get("OMP_NUM_THREADS", "")
    cores = min(cores, int(granted)) if granted.isdigit() and int(granted) else cores
    return cores if engine == "exact" else max(1, cores // workers)
