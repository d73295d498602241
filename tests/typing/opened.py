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


nczip.Compressor("fastest")  # WRONG: no such preset
nczip.compress(b"data", thread=2)  # WRONG: no such option
nczip.decompress(b"data", preset="fast")  # WRONG: a preset is for compressing
nczip.open(3)  # WRONG: descriptors are not taken
text: io.TextIOWrapper = nczip.open("f.ncz", "rb")  # WRONG: a binary file

compressor = nczip.Compressor("fast", threads=2)
assert_type(compressor.compress(b"data", nczip.Compressor.FLUSH_BLOCK), bytes)
assert_type(compressor.flush(nczip.Compressor.FLUSH_FRAME), bytes)
assert_type(nczip.get_frame_info(b"").decompressed_size, int | None)
assert_type(nczip.evaluate(b"text").bits_per_byte, float)
