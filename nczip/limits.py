"""What coding takes of a machine: memory and threads."""

import os

from nczip.coder.errors import LimitError
from nczip.formats.container import Header
from nczip.predictors.primer import TABLE_BITS as PRIMED_TABLE_BITS
from nczip.predictors.table import LINE_BYTES
from nczip.presets import EngineName


def decoding_memory(table_bits: int, block_size: int, with_primer: bool) -> int:
    """Bytes that a worker needs to decode a block, but for what is small; the primer is shared."""
    primed = LINE_BYTES << PRIMED_TABLE_BITS if with_primer else 0
    return (LINE_BYTES << table_bits) + 3 * block_size + primed


def check_memory(header: Header, limit: int) -> None:
    """Raise LimitError where decoding a block would need more than ``limit`` bytes."""
    need = decoding_memory(header.table_bits, header.block_size, header.primer != 0)
    if need > limit:
        raise LimitError(
            f"decoding needs {need >> 20} MiB for each worker, more than the limit of "
            f"{limit >> 20} MiB: raise it with --memory"
        )


def engine_threads(engine: EngineName, workers: int) -> int:
    """Threads for each worker's transformer.

    llama.cpp's threads spin while they wait, so the machine's cores are shared out; those of the
    exact engine sleep, and a file of one block keeps only one worker busy.
    """
    cores = os.cpu_count() or 1
    return cores if engine == "exact" else max(1, cores // workers)
