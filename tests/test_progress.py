"""The bar counts what is coded, not what has been read into a buffer."""

import io
import sys
from dataclasses import dataclass

import pytest
from tests_support import noise

import nczip
from nczip.coder import rangecoder
from nczip.frames import FrameCounter
from nczip.jobs import _CodedSizes
from nczip.progress import Progress
from nczip.sources import open_source

DATA = noise(9000)


@dataclass
class Verbosity:
    quiet: bool = False
    verbose: bool = False


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("step", [1, 7, 1000, 100_000])
def test_whole_blocks_are_counted_as_they_go_by(step):
    packed = nczip.compress(DATA, "fast", primer=False, block_size=2000)
    counter = FrameCounter()
    seen = set()
    for at in range(0, len(packed), step):
        counter.feed(packed[at : at + step])
        seen.add(counter.raw_size)
    assert counter.raw_size == len(DATA)
    assert seen <= {*range(0, 9000, 2000), 9000}


def test_a_bar_shows_what_coders_have_coded_of_a_block(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    before = rangecoder.raw_in_progress()  # of other tests' garbage
    coder = rangecoder.new_encoder()

    def coded():
        return rangecoder.raw_in_progress() - before

    with Progress("name", 1000, coded, Verbosity()) as progress:
        task = progress._bar.tasks[0]
        progress.show()
        assert task.completed == 0
        coder[rangecoder.CODED] = 250
        progress.show()
        assert task.percentage == 25


def test_decoding_is_counted_by_the_place_of_the_block_in_the_file(tmp_path):
    path = tmp_path / "file.ncz"
    packed = nczip.compress(DATA, "fast", primer=False, block_size=2000)
    path.write_bytes(packed)
    with open_source(str(path), follow=True, any_kind=False, last_link=False) as source:
        sizes = _CodedSizes(source)
        assert source.read(10) == packed[:10]
        places = [sizes.up_to(raw) for raw in (0, 2000, 4000, 9000)]
    assert places == sorted(places) and places[0] < 50
    assert places[1] - places[0] > 2000 and places[-1] > len(packed) - 100


def test_no_bar_is_shown_where_nobody_looks(monkeypatch):
    for stream, verbosity in ((io.StringIO(), Verbosity()), (Terminal(), Verbosity(quiet=True))):
        monkeypatch.setattr(sys, "stderr", stream)
        with Progress("name", 1000, int, verbosity) as progress:
            progress.show()
        assert stream.getvalue() == ""


def test_names_are_no_markup_on_the_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("[red]\x1b[2Jname[/x]", 1000, int, Verbosity()) as progress:
        progress.show()
    assert "[red]\\x1b[2Jname[/x]" in terminal.getvalue()
