"""What type checkers must know of nczip.open and its kin; checked by test_typing.py, never run."""

import io
from pathlib import Path
from typing import assert_type

import nczip

assert_type(nczip.open("f.ncz"), nczip.NczipFile)
assert_type(nczip.open(Path("f.ncz"), "rb", threads=2, max_output=1 << 20), nczip.NczipFile)
assert_type(nczip.open(b"f.ncz", "wb", preset="fast", primer=False), nczip.NczipFile)
assert_type(nczip.open(io.BytesIO(), "ab"), nczip.NczipFile)
assert_type(nczip.open("f.ncz", "rt"), io.TextIOWrapper)
assert_type(nczip.open("f.ncz", "rt", encoding="utf-8", newline=""), io.TextIOWrapper)
assert_type(nczip.open("f.ncz", "wt", preset="max", threads=0), io.TextIOWrapper)
assert_type(nczip.open("f.ncz", "at", errors="replace"), io.TextIOWrapper)


def by_any_mode(mode: str) -> None:
    assert_type(nczip.open("f.ncz", mode), nczip.NczipFile | io.TextIOWrapper)


nczip.open("f.ncz", "rb", preset="fast")  # WRONG: a preset is for writing
nczip.open("f.ncz", "rb", encoding="utf-8")  # WRONG: an encoding is for text
nczip.open("f.ncz", "wt", max_output=3)  # WRONG: a limit is for reading
nczip.open("f.ncz", "rt", thread=2)  # WRONG: no such option
nczip.open("f.ncz", "wt", preset="fastest")  # WRONG: no such preset

compressor = nczip.Compressor("fast", threads=2)
assert_type(compressor.compress(b"data", nczip.Compressor.FLUSH_BLOCK), bytes)
assert_type(compressor.flush(nczip.Compressor.FLUSH_FRAME), bytes)
assert_type(nczip.get_frame_info(b"").decompressed_size, int | None)
assert_type(nczip.evaluate(b"text").bits_per_byte, float)
