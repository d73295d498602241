"""Breaks of lines: taken out of prose and put back; left alone in everything else."""

import random
import textwrap

import pytest
from tests_support import AWKWARD, english, noise

import nczip
from nczip.errors import CorruptError
from nczip.formats.transforms.linebreaks import put_back, take_out
from nczip.planning import find_width
from nczip.predictors.train import generate


def _paragraphs(width: int, size: int = 20_000) -> bytes:
    words = english(size).decode().replace("\n", " ")
    parts = [words[i : i + 700] for i in range(0, len(words), 700)]
    return "\n\n".join(textwrap.fill(part.lower(), width) for part in parts).encode()


@pytest.mark.parametrize("width", [45, 72, 90])
def test_the_width_of_prose_is_found_and_its_breaks_cost_next_to_nothing(width):
    text = _paragraphs(width)
    found = find_width(text)
    assert abs(found - width) <= 1
    unbroken, breaks = take_out(text, found)
    assert len(breaks) < 20
    assert unbroken.count(b"\n") < 0.5 * text.count(b"\n")
    assert put_back(unbroken, found, breaks) == text


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("width", [0, 1, 60, 255])
def test_whatever_is_taken_out_comes_back(name, width):
    text = AWKWARD[name]
    assert _there_and_back(text, width) == text


def _there_and_back(text, width):
    unbroken, breaks = take_out(text, width)
    return put_back(unbroken, width, breaks)


def test_blanks_of_every_kind_come_back():
    rng = random.Random(1)
    for _ in range(300):
        text = bytes(rng.choices(b"ab c\n \r\n\t\0", k=rng.randint(0, 200)))
        assert _there_and_back(text, rng.randint(0, 20)) == text


_NO_PROSE = {
    "nothing": b"",
    "a line end": b"\n",
    "no line end": b"no line ends at all",
    "paragraphs": english(20_000),
    "noise": noise(20_000),
    "log": b"".join(generate.logs(20_000, 3)),
    "addresses": b"\n".join(b"https://example.org/a/rather/long/path/%d" % i for i in range(500)),
    "code": b"\n".join(b"    return function(%d, another, one_more) + 1;" % i for i in range(500)),
}


@pytest.mark.parametrize("name", _NO_PROSE)
def test_what_is_not_broken_prose_is_left_alone(name):
    assert find_width(_NO_PROSE[name]) == 0


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("preset", ["fast", "default"])
def test_broken_prose_costs_hardly_more_than_prose(preset, line_end):
    text = _paragraphs(70)
    broken = text.replace(b"\n", line_end)
    whole = text.replace(b"\n\n", b"\0").replace(b"\n", b" ").replace(b"\0", b"\n\n")
    coded = nczip.compress(broken, preset)
    assert nczip.decompress(coded) == broken
    assert len(coded) <= len(nczip.compress(whole, preset)) + 40


def test_breaks_that_do_not_end_with_the_text_are_refused():
    unbroken, breaks = take_out(_paragraphs(70), 70)
    with pytest.raises(CorruptError):
        put_back(unbroken[:100], 70, breaks + bytes([7]) * 50)
