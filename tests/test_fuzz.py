"""Mutated streams and models: right bytes or an error of ours, in bounded time and memory.

A longer campaign: ``python -m tests.fuzz --seconds 3600 --jobs 2 --seed N``.
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz import campaign, seeds
from fuzz.campaign import judge
from fuzz.cases import TARGETS, read_any, run_case, target_of
from fuzz.corpus import FOLDER
from fuzz.readers import WrongBytesError
from fuzz.structure import join, raw_of

import nczip

ROOT = Path(__file__).resolve().parents[1]
CORPUS = sorted(FOLDER.glob("*.ncz"))


def run(*arguments):
    """``python -m tests.fuzz`` in a process of its own."""
    command = [sys.executable, "-m", "tests.fuzz", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", seeds.streams())
def test_streams_decode_before_they_are_mutated(name):
    stream = seeds.streams()[name]
    options = {"model": str(seeds.model_file())}
    with seeds.small_scale():
        assert nczip.decompress(join(stream), **options) == raw_of(stream)


def test_seeds_have_lanes_sinks_and_the_primer():
    made, header = seeds.blocks(), seeds.exact_header()
    assert header.model.sinks and header.model.lanes == 2 and len(made["exact"].raw) >= 40
    assert made["primed"].pieces[0] == made["exact, primed"].pieces[0] == b"\3"
    options = {"model": str(seeds.model_file())}
    for name in ("exact", "lanes", "exact, primed"):  # cut into lanes that are not there otherwise
        stream = seeds.streams()[name]
        with pytest.raises(nczip.NczipError):
            nczip.decompress(join(stream), **options)


@pytest.mark.parametrize("path", CORPUS, ids=[path.stem for path in CORPUS])
def test_the_corpus_gives_the_errors_that_it_gave(path):
    error = read_any(path.read_bytes())
    assert path.stem.startswith("taken" if error is None else type(error).__name__)


def test_a_campaign_finds_nothing(tmp_path):
    done = run("--inputs", 9000, "--seed", 1, "--failures", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("9000 inputs: 0 wrong bytes, 0 foreign exceptions, 0 slow, 0 ov")


def test_wrong_bytes_and_foreign_exceptions_are_found(monkeypatch):
    def lie(rng, note):
        note(b"an input")
        raise WrongBytesError("made up")

    def stumble(rng, note):
        raise KeyError("made up")

    def gorge(rng, note):
        raise MemoryError

    first = target_of(0)
    for case, what in ((lie, "wrong bytes"), (stumble, "foreign exceptions"), (gorge, "over mem")):
        monkeypatch.setitem(TARGETS, first, case)
        error, failure = judge(1, 0)
        assert error is None and failure.what.startswith(what)


@pytest.mark.parametrize(
    ("misbehave", "what"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "foreign exceptions"),
        (lambda: sum(iter(int, 1)), "slow"),
        (lambda: bytes(1 << 30), "over memory"),
    ],
)
def test_a_process_that_dies_or_takes_too_much_is_replaced(monkeypatch, tmp_path, misbehave, what):
    def case(rng, note):
        if multiprocessing.parent_process() is not None:
            misbehave()

    monkeypatch.setattr(campaign, "MOST_SECONDS", 1)
    for number in range(len(TARGETS)):
        monkeypatch.setitem(TARGETS, target_of(number), lambda rng, note: None)
    monkeypatch.setitem(TARGETS, target_of(3), case)
    summary = campaign.campaign(1, 1, tmp_path, inputs=10)
    assert {name for name, count in summary.failures.items() if count} == {what}
    assert summary.inputs == 10 and summary.failures[what] == 1
    (failure,) = (json.loads(path.read_text()) for path in tmp_path.glob("*.json"))
    assert failure["number"] == 3 and failure["what"] == what


def test_a_reader_that_lies_is_found(monkeypatch):
    from fuzz import cases, readers

    true = readers.read_whole
    monkeypatch.setattr(
        cases.readers, "read_whole", lambda data: readers.Reading(true(data).content + b"x")
    )
    found = [judge(1, number)[1] for number in range(30)]
    assert any(failure and failure.what == "wrong bytes" for failure in found)


def test_cases_are_the_same_each_time():
    def inputs():
        held = []
        for number in range(30):
            run_case(1, number, held.append)
        return held

    assert inputs() == inputs()


def test_a_stream_that_may_return_nothing_does_not_ask_for_more():
    decoder = nczip.Decompressor()
    decoder.decompress(nczip.compress(b"abc", "fast", primer=False), 0)
    assert not decoder.needs_input
