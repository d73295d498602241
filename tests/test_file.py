"""NczipFile and open: the habits of lzma.LZMAFile."""

import io
import time

import pytest
from tests_support import english, noise

import nczip
from nczip.formats.container import parse_header

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


def test_lines_are_read_in_time_that_grows_with_their_number(tmp_path):
    """It was quadratic: 1.6 MB took five minutes."""
    data = b"one short line\n" * 200_000
    path = tmp_path / "lines.ncz"
    path.write_bytes(nczip.compress(data, "fast", primer=False))
    with nczip.open(path) as file:
        start = time.process_time()
        assert sum(len(line) for line in file) == len(data)
        assert time.process_time() - start < 10
        assert file.seek(15) == 15
        assert next(file) == b"one short line\n"


def test_what_a_buffered_reader_can_do_works(path):
    with nczip.open(path) as file:
        assert file.peek(3)[:3] == DATA[:3]
        assert file.tell() == 0
        buffer = bytearray(300)
        assert file.readinto1(buffer) == 300 and buffer == DATA[:300]
        assert file.readline() == DATA[300 : DATA.index(b"\n", 300) + 1]
        assert file.name == str(path) or file.name == path
        assert file.mode == "rb"
        assert file.fileno() > 2
        assert io.BufferedReader(file).read() == DATA[DATA.index(b"\n", 300) + 1 :]


def test_a_seek_decodes_only_the_block_that_it_needs(path):
    damaged = bytearray(path.read_bytes())
    damaged[parse_header(damaged)[1] + 40] ^= 1  # the first of five blocks
    with nczip.NczipFile(io.BytesIO(damaged)) as file:
        file.seek(5000)
        assert file.read(1000) == DATA[5000:6000]
        file.seek(-100, io.SEEK_END)
        assert file.read() == DATA[-100:]
        file.seek(2048)
        assert file.read() == DATA[2048:]
        file.seek(100)
        for _ in range(2):
            with pytest.raises(nczip.CorruptError):
                file.read()


def test_a_seek_without_an_index_reads_on_or_starts_again(path):
    cut = path.read_bytes()[:-20]
    with nczip.NczipFile(io.BytesIO(cut)) as file:
        assert file.seek(3000) == 3000
        assert file.read(10) == DATA[3000:3010]
        assert file.seek(10) == 10
        assert file.read(10) == DATA[10:20]


def test_looking_for_the_end_does_not_lead_a_stream_astray():
    """The index, which is read at the end, begins a new piece of what is read of the file."""
    options = {"primer": False, "block_size": 30_000, "memory_limit": 8 << 20}
    data = noise(131_000)
    size = len(nczip.compress(data, "fast", **options))
    data = noise(len(data) + (2 << 16) + 10 - size)
    packed = nczip.compress(data, "fast", **options)
    assert len(packed) == (2 << 16) + 10
    with nczip.open(io.BytesIO(packed)) as file:
        assert file.read(len(data)) == data
        assert file.seek(0, io.SEEK_END) == len(data)
        assert file.read() == b""
    with nczip.open(io.BytesIO(packed), max_output=100_000) as file:
        assert file.read(5) == data[:5]
        with pytest.raises(nczip.LimitError):
            file.seek(0, io.SEEK_END)
        with pytest.raises(nczip.LimitError):
            file.read()


def test_an_error_is_raised_again_at_every_read(path):
    with nczip.NczipFile(io.BytesIO(path.read_bytes()[:-20])) as file:
        for _ in range(3):
            with pytest.raises(nczip.TruncatedError):
                file.read()


def test_a_flush_makes_everything_readable(tmp_path):
    target = tmp_path / "log.ncz"
    with nczip.open(target, "wt", preset="fast", primer=False) as file:
        file.write("one line\n")
        file.flush()
        assert nczip.decompress(target.read_bytes()) == b"one line\n"
        size = target.stat().st_size
        file.flush()
        assert target.stat().st_size == size
        file.write("another\n")
    assert nczip.decompress(target.read_bytes()) == b"one line\nanother\n"


def test_a_file_that_takes_little_at_a_time_gets_everything():
    class Reluctant(io.RawIOBase):
        """As unbuffered files may, it takes less than it is given."""

        def __init__(self):
            self.content = bytearray()

        def writable(self):
            return True

        def write(self, data):
            taken = bytes(data[:7])
            self.content += taken
            return len(taken)

    target = Reluctant()
    with nczip.NczipFile(target, "w", preset="fast", primer=False) as file:
        file.write(DATA)
    assert nczip.decompress(target.content) == DATA


def test_a_full_disk_is_an_error_of_the_write():
    with (
        pytest.raises(OSError, match="No space"),
        nczip.open("/dev/full", "wb", preset="fast", primer=False) as file,
    ):
        file.write(DATA)


def test_threads_read_the_same(path):
    with nczip.open(path, threads=3) as file:
        assert file.read() == DATA
        file.seek(3000)
        assert file.read() == DATA[3000:]


def test_an_empty_file_is_an_error_and_an_empty_member_is_not(tmp_path):
    with pytest.raises(EOFError):
        nczip.open(io.BytesIO(b"")).read()
    with nczip.open(tmp_path / "none.ncz", "wb", preset="fast"):
        pass
    assert nczip.open(tmp_path / "none.ncz").read() == b""
