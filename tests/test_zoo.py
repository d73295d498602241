"""The zoo of files: good ones decode, bad and unsupported ones give the error that they must."""

import hashlib
import io
import json
from pathlib import Path

import pytest

import nczip
from nczip import errors
from nczip.archive import Archive
from nczip.salvage import Hole, Salvager

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


def read_blocks(data):
    """Block by block, found by the indexes."""
    if not data:
        return read_whole(data)
    archive = Archive(io.BytesIO(data))
    return b"".join(archive.read_range(0, archive.raw_size))


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


@pytest.mark.parametrize("name", EXPECTED)
def test_what_indexes_lead_to_is_what_the_stream_has(name):
    """Damage may give another error, or none where it is in what is not read."""
    data = (FOLDER / name).read_bytes()
    try:
        content = read_blocks(data)
    except errors.NczipError:
        assert not name.startswith("good-")
        return
    expected = EXPECTED[name].get("sha256")
    assert hashlib.sha256(content).hexdigest() == expected or name in UNREAD


#: What only shows where all is read: the check of all raw bytes.
UNREAD = {"bad-index-whole-check.ncz"}


@pytest.mark.parametrize("name", [name for name in EXPECTED if not name.startswith("uns")])
def test_salvaging_goes_on_to_the_end_of_every_file(name):
    pieces = list(Salvager((FOLDER / name).read_bytes()))
    if name.startswith("good-"):
        assert hashlib.sha256(b"".join(pieces)).hexdigest() == EXPECTED[name]["sha256"]
        return
    assert any(isinstance(piece, Hole) for piece in pieces) or name in SALVAGED


#: Nothing of any block is missing: what is damaged is set right, or an index only tells otherwise.
SALVAGED = {
    f"bad-{name}.ncz"
    for name in (
        *("empty", "magic", "header-check", "block-member", "block-number"),
        *("index-whole-check", "index-raw-size", "index-frame-size", "index-order", "index-coding"),
    )
}


def test_the_zoo_is_small_and_described():
    described = (FOLDER / "README.md").read_text()
    files = {path.name: path.stat().st_size for path in FOLDER.glob("*.ncz")}
    assert set(files) == set(EXPECTED)
    assert all(size < 4096 for size in files.values())
    assert all(f"| {name} |" in described for name in files)
