"""NczipFile and open: the habits of lzma.LZMAFile."""

import io

import pytest
from tests_support import english

import nczip

DATA = english(9000)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "text.ncz"
    with nczip.open(path, "wb", preset="fast", block_size=2048) as file:
        assert file.write(DATA[:5000]) == 5000
        file.write(DATA[5000:])
        assert file.tell() == len(DATA)
    return path


def test_files_read_back(path):
    with nczip.open(path) as file:
        assert file.readable() and file.seekable() and not file.writable()
        assert file.read(10) == DATA[:10]
        assert file.read() == DATA[10:]
        assert file.read() == b""


def test_files_seek_both_ways(path):
    with nczip.NczipFile(path) as file:
        assert file.seek(7000) == 7000
        assert file.read(100) == DATA[7000:7100]
        assert file.seek(-50, io.SEEK_CUR) == 7050
        assert file.read(50) == DATA[7050:7100]
        assert file.seek(-10, io.SEEK_END) == len(DATA) - 10
        assert file.read() == DATA[-10:]
        assert file.seek(0) == 0
        assert file.read(5) == DATA[:5]


def test_text_modes_decode_lines(path):
    with nczip.open(path, "rt", encoding="ascii") as file:
        assert list(file) == io.StringIO(DATA.decode()).readlines()
    with pytest.raises(ValueError, match="mode"):
        nczip.open(path, "rbt")
    with pytest.raises(ValueError, match="encoding"):
        nczip.open(path, "rb", encoding="ascii")


def test_appending_adds_a_member(path):
    with nczip.open(path, "ab", preset="fast") as file:
        file.write(b"more")
    assert nczip.decompress(path.read_bytes()) == DATA + b"more"


def test_file_objects_stay_open():
    buffer = io.BytesIO()
    with nczip.NczipFile(buffer, "w", preset="fast") as file:
        file.write(DATA)
    assert not buffer.closed
    buffer.seek(0)
    with nczip.NczipFile(buffer) as file:
        assert file.readinto(view := bytearray(100)) == 100
        assert view == DATA[:100]
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")


def test_closed_files_refuse_everything(path):
    file = nczip.open(path)
    file.close()
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.read()


def test_exclusive_creation_respects_existing_files(path):
    with pytest.raises(FileExistsError):
        nczip.open(path, "xb", preset="fast")


def test_unknown_modes_are_refused(path):
    with pytest.raises(ValueError, match="mode"):
        nczip.NczipFile(path, "rw")
