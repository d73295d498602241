"""Options: one set for keywords and command line, and what cannot be is said at once."""

import os
from dataclasses import fields

import pytest
from tests_support import english

import nczip
from nczip import headers
from nczip.cli import compress_command
from nczip.errors import ModelError
from nczip.jobs import Options
from nczip.limits import engine_threads
from nczip.options import (
    CompressKeywords,
    CompressOptions,
    DecompressKeywords,
    DecompressOptions,
)
from nczip.presets import BUILT_IN, LEVELS, PRESETS
from nczip.settings import choose


@pytest.mark.parametrize(
    ("keywords", "options", "positional"),
    [
        (CompressKeywords, CompressOptions, {"preset"}),
        (DecompressKeywords, DecompressOptions, set()),
    ],
)
def test_every_option_is_a_keyword(keywords, options, positional):
    assert set(keywords.__annotations__) | positional == {field.name for field in fields(options)}


def test_the_command_line_has_the_same_options():
    given = {parameter.name for parameter in compress_command.params} - {"files", "filelist"}
    assert given <= {field.name for field in fields(Options)}
    unreachable = {field.name for field in fields(CompressOptions)} - given
    assert unreachable == {"announce", "detail"}


def test_the_command_line_s_options_are_keywords_too():
    options = Options("max", lanes=3, quiet=True, memory_limit=1 << 33)
    assert CompressOptions(options.preset, **options.keywords()) == CompressOptions(
        "max", lanes=3, memory_limit=1 << 33
    )
    assert DecompressOptions(**options.decoding()).most_memory == 1 << 33


@pytest.mark.parametrize(
    "preset", [name for name, preset in PRESETS.items() if preset.model in (None, BUILT_IN)]
)
def test_settings_are_the_preset_s_but_for_what_is_named(preset):
    base, chosen = PRESETS[preset], choose(CompressOptions(preset, lanes=5))
    assert chosen.lanes == 5
    assert (chosen.block_size, chosen.table_bits, chosen.window) == (
        base.block_size,
        base.table_bits,
        base.window,
    )
    assert (None if chosen.model is None else chosen.model.name) == base.model


def test_what_cannot_be_is_refused():
    for options, reason in (
        ({"preset": "fsat"}, "preset 'fsat'"),
        ({"engine": "excat"}, "engine 'excat'"),
        ({"threads": -1}, "threads"),
    ):
        with pytest.raises(ValueError, match=reason):
            nczip.compress(b"", **options)
    with pytest.raises(ValueError, match="threads"):
        nczip.Decompressor(threads=-1)
    with pytest.raises(TypeError, match="colour"):
        nczip.compress(b"", colour="red")


def test_no_threads_are_as_many_as_there_are_cores():
    data = english(9000)
    packed = nczip.compress(data, "fast", block_size=2048, threads=0)
    assert packed == nczip.compress(data, "fast", block_size=2048)
    assert nczip.decompress(packed, threads=0) == data


def test_nothing_is_encoded_to_open_a_codec(monkeypatch):
    data = english(5000)
    packed = nczip.compress(data, "fast")  # the primed table is there from here on
    monkeypatch.setattr(headers, "encode", None)
    assert nczip.decompress(packed) == data


@pytest.mark.slow
def test_a_misspelt_preset_is_an_error_to_mypy(tmp_path):
    api = pytest.importorskip("mypy.api", reason="mypy is not installed")
    source = tmp_path / "snippet.py"
    source.write_text("import nczip\nnczip.compress(b'', 'fsat', lanse=3)\n")
    out, _, code = api.run([str(source)])
    assert code == 1
    assert "'fsat'" in out and "lanse" in out


def test_no_more_threads_than_a_batch_system_grants(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    for granted, exact, llama in (("", 8, 4), ("1", 1, 1), ("6", 6, 3), ("64", 8, 4), ("x", 8, 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", granted)
        assert (engine_threads("exact", 2), engine_threads("llama", 2)) == (exact, llama)


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_is_its_preset_under_another_name(level):
    def outcome(preset):
        try:
            return choose(CompressOptions(preset))
        except ModelError as error:  # of a model that was not pulled here
            return str(error)

    assert outcome(level) == outcome(LEVELS[level])


def test_levels_are_taken_wherever_presets_are(tmp_path):
    data = english(3000)
    packed = nczip.compress(data, "swift", primer=False)
    assert nczip.compress(data, 1, primer=False) == packed
    compressor = nczip.Compressor(1, primer=False)
    assert compressor.compress(data) + compressor.flush() == packed
    with nczip.open(tmp_path / "file.ncz", "wb", preset=1, primer=False) as file:
        file.write(data)
    assert (tmp_path / "file.ncz").read_bytes() == packed


def test_levels_run_from_the_fastest_to_the_smallest():
    order = list(PRESETS)
    places = [order.index(LEVELS[level]) for level in range(1, 10)]
    assert places == sorted(places) and (places[0], places[-1]) == (0, len(order) - 1)


@pytest.mark.parametrize("preset", ["best", "1", 0, 10, -1, True, 1.0, None])
def test_what_is_neither_preset_nor_level_is_said_with_what_there_is(preset):
    with pytest.raises(ValueError, match=r"fast, default.*max.*level from 1 to 9"):
        nczip.compress(b"", preset)
