"""The zoo of files: good ones decode, bad and unsupported ones give the error that they must."""

import hashlib
import io
import json
from pathlib import Path

import pytest

import nczip
from nczip import errors

FOLDER = Path(__file__).parent / "files"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())


def read_whole(data):
    """As :func:`nczip.decompress`."""
    return nczip.decompress(data)


def read_file(data):
    """Through a file object."""
    with nczip.open(io.BytesIO(data)) as file:
        return file.read()


def read_bytewise(data):
    """As a stream, byte by byte, with room for few bytes."""
    out, decoder, rest = b"", nczip.Decompressor(), data
    if not data:
        return read_whole(data)
    while True:
        if decoder.eof:
            rest = decoder.unused_data + rest
            if not rest:
                return out
            if rest[:1] != b"\x8e":
                return read_whole(data)
            decoder = nczip.Decompressor()
        if decoder.needs_input and not rest:
            decoder.finish()
            return out
        piece, rest = (rest[:1], rest[1:]) if decoder.needs_input else (b"", rest)
        out += decoder.decompress(piece, 100)


@pytest.mark.parametrize("read", [read_whole, read_file, read_bytewise])
@pytest.mark.parametrize("name", EXPECTED)
def test_every_file_gives_what_it_must(name, read):
    data = (FOLDER / name).read_bytes()
    expected = EXPECTED[name]
    if "sha256" in expected:
        assert name.startswith("good-")
        assert hashlib.sha256(read(data)).hexdigest() == expected["sha256"]
        return
    assert not name.startswith("good-")
    with pytest.raises(errors.NczipError) as caught:
        read(data)
    assert type(caught.value) is getattr(errors, expected["error"])
    assert expected["message"] in str(caught.value)


def test_the_zoo_is_small_and_described():
    described = (FOLDER / "README.md").read_text()
    files = {path.name: path.stat().st_size for path in FOLDER.glob("*.ncz")}
    assert set(files) == set(EXPECTED)
    assert all(size < 4096 for size in files.values())
    assert all(f"| {name} |" in described for name in files)
