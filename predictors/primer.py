"""The primed table: what the n-gram tables know before a file's first byte.

It holds the slots that the first contexts of text (orders and words) fill while they read the
primer, a text of 64 MB: reading costs under a microsecond a byte, for nothing is mixed or coded.
Contexts seen only once are left out, and so is what does not fit, least seen first. The table is
never written while files are coded: a context that is new to a block's own table takes a copy of
its primed slot along. How far to trust it is learnt, too (learnt.py).
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nczip.coder.jit import kernel
from nczip.coder.simd import prefetch
from nczip.predictors.contexts import PRIMED_CONTEXTS, Reader, hash_primed_contexts
from nczip.predictors.history import PRIORITY
from nczip.predictors.memory import POSITION, STOP, advance_prose, new_lanes
from nczip.predictors.table import (
    LINE_BYTES,
    NODES,
    ROOT,
    SLOT_BYTES,
    SLOTS,
    Table,
    claim,
    home_line,
    new_table,
    nibble_hash,
    search,
    update_node,
    update_run,
)

U8Array = npt.NDArray[np.uint8]

#: log2 of the primed table's lines.
TABLE_BITS = 23
_READERS = 2  # reader r reads contexts r, r + 2, ...
_MIN_BITS_SEEN = 2


@dataclass(frozen=True)
class Primer:
    """What an ensemble knows before its first byte (primer.py)."""

    table: Table
    learnt: Mapping[str, npt.NDArray[Any]] | None  #: see learnt.py; without a transformer
    learnt_tokens: Mapping[str, npt.NDArray[Any]] | None  #: the same for text under a transformer


def prime_table(text: bytes, threads: int) -> U8Array:
    """The primed table of a text: uint8[64 << TABLE_BITS], the same for every number of threads.

    Takes 1 GiB of memory meanwhile.
    """
    data = np.frombuffer(text, np.uint8)

    def read(reader: int) -> Table:
        table = new_table(TABLE_BITS)
        lanes = new_lanes(np.array([0, len(data)], np.int64))
        _read(data, lanes, table, np.zeros((2, 2 * PRIMED_CONTEXTS), np.uint64), reader)
        return table

    with ThreadPoolExecutor(max(1, min(threads, _READERS))) as executor:
        tables = list(executor.map(read, range(_READERS)))
    _fold(tables[1], tables[0])
    return tables[0].data


def compile_kernels() -> None:
    """Compile or load what :func:`prime_table` needs, which tables of any size will do for."""
    table = new_table(0)
    data = np.zeros(2, np.uint8)
    data.flags.writeable = False
    lanes = new_lanes(np.array([0, 2], np.int64))
    _read(data, lanes, table, np.zeros((2, 2 * PRIMED_CONTEXTS), np.uint64), 0)
    _fold(table, new_table(0))


@kernel(inline=True)
def _ask(data, lanes, table, hashes, row, reader):
    """Hash the contexts of the next byte, for both nibbles, into a row; prefetch their lines."""
    hash_primed_contexts(Reader(data, lanes, 0), hashes[row])
    nibble = np.int64(data[lanes[0, POSITION]]) >> 4
    for i in range(reader, PRIMED_CONTEXTS, _READERS):
        second = nibble_hash(hashes[row, i], nibble)
        hashes[row, PRIMED_CONTEXTS + i] = second
        prefetch(table.data, home_line(table, hashes[row, i]))
        prefetch(table.data, home_line(table, second))


@kernel(inline=True)
def _learn_nibble(table, h, nibble):
    """Let the slot of hash ``h`` learn four bits (int64); returns it."""
    slot = search(table, h)
    if slot < 0:
        slot = -1 - slot
        claim(table, slot, h)
    node = np.int64(1)
    for shift in range(3, -1, -1):
        bit = (nibble >> shift) & 1
        update_node(table, slot + NODES + node, bit)
        node = node << 1 | bit
    return slot


@kernel()
def _read(data, lanes, table, hashes, reader):
    """Let every second context, from ``reader`` on, learn all of ``data``.

    ``hashes``, uint64[2, 2 * PRIMED_CONTEXTS], is room for those of this byte and of the next.
    """
    _ask(data, lanes, table, hashes, 0, reader)
    while lanes[0, POSITION] < lanes[0, STOP]:
        position = lanes[0, POSITION]
        byte = np.int64(data[position])
        advance_prose(lanes, 0, byte)
        lanes[0, POSITION] = position + 1
        if position + 1 < lanes[0, STOP]:
            _ask(data, lanes, table, hashes, (position + 1) & 1, reader)
        row = position & 1
        for i in range(reader, PRIMED_CONTEXTS, _READERS):
            slot = _learn_nibble(table, hashes[row, i], byte >> 4)
            update_run(table, slot, byte)
            _learn_nibble(table, hashes[row, PRIMED_CONTEXTS + i], byte & 15)


@kernel()
def _fold(table, primed):
    """Move the slots of ``table`` into the same lines of ``primed``, a table of the same size.

    A line keeps the slots that have seen most, its own where they have seen the same, and none
    that has seen less than _MIN_BITS_SEEN.
    """
    line_slots = SLOTS * SLOT_BYTES
    for line in range(0, primed.data.shape[0], LINE_BYTES):
        for slot in range(line, line + line_slots, SLOT_BYTES):
            if PRIORITY[primed.data[slot + ROOT]] < _MIN_BITS_SEEN:
                for i in range(slot >> 2, (slot + SLOT_BYTES) >> 2):
                    primed.words[i] = 0
        for source in range(line, line + line_slots, SLOT_BYTES):
            seen = np.int64(PRIORITY[table.data[source + ROOT]])
            least, victim = np.int64(256), line
            for slot in range(line, line + line_slots, SLOT_BYTES):
                priority = np.int64(PRIORITY[primed.data[slot + ROOT]])
                victim = slot if priority < least else victim
                least = min(priority, least)
            if seen >= _MIN_BITS_SEEN and seen > least:
                for i in range(SLOT_BYTES >> 2):
                    primed.words[(victim >> 2) + i] = table.words[(source >> 2) + i]
