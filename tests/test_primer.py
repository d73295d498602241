"""The primer: its table, its cache, and what headers and errors say of it."""

import bz2
import hashlib
import multiprocessing
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zstandard
from click.testing import CliRunner
from tests_support import english, noise, records

import nczip
from nczip.assets import learnt, manifest
from nczip.assets import primer as store
from nczip.assets.__main__ import take_over
from nczip.cli import cli
from nczip.coder.errors import CacheWarning
from nczip.formats.container import (
    Place,
    build_block,
    member_check,
    pack_header,
    parse_block_header,
    parse_header,
)
from nczip.predictors import primer
from nczip.predictors.codec import CodecSettings, encode
from nczip.predictors.ensemble import learnt_state, new_ensemble
from nczip.predictors.history import PRIORITY
from nczip.predictors.learnt import pack_learnt, unpack_learnt
from nczip.predictors.protocol import Setup
from nczip.predictors.recurrent import no_weights
from nczip.predictors.table import LINE_BYTES, ROOT, SLOT_BYTES, new_table
from nczip.predictors.transformer.trie import no_trie

TEXT = english(60_000, seed=5)


def _fresh_state():
    setup = Setup(10, 1, new_table(0), no_trie(), no_weights())
    fresh = new_ensemble(np.zeros(1, np.uint8), np.array([0, 1]), setup, binary=False)
    return learnt_state(fresh)


@pytest.fixture
def small_tables(monkeypatch):
    monkeypatch.setattr(primer, "TABLE_BITS", 14)


@pytest.fixture
def small_primer(tmp_path, monkeypatch, small_tables):
    """Assets of its own with a primer that is made in no time; returns its cache folder."""
    home, made = tmp_path / "home", tmp_path / "made"
    made.mkdir()
    shutil.copytree(manifest.FOLDER, home, ignore=shutil.ignore_patterns("*.bz2", "learnt*"))
    (made / "primer.txt.bz2").write_bytes(bz2.compress(TEXT))
    packed = zstandard.compress(pack_learnt(_fresh_state()))
    for name in ("learnt.npz.zst", "learnt-tokens.npz.zst"):
        (made / name).write_bytes(packed)
    assert take_over(made, home) == ["primer-text", "learnt", "learnt-tokens"]
    monkeypatch.setattr(manifest, "FOLDER", home)
    monkeypatch.setenv("NCZIP_PRIMER_CACHE", str(tmp_path / "cache"))
    _forget()
    yield tmp_path / "cache"
    _forget()


def _forget():
    manifest.manifest.cache_clear()
    learnt._load.cache_clear()
    store.identify.cache_clear()
    store._tables.clear()


def _load():
    return store.load_primer(store.identify(), None)


def test_the_table_does_not_depend_on_the_number_of_threads(small_tables):
    assert np.array_equal(primer.prime_table(TEXT, 1), primer.prime_table(TEXT, 2))


def test_the_table_keeps_only_contexts_seen_twice(small_tables):
    table = primer.prime_table(TEXT, 1).reshape(-1, LINE_BYTES)
    seen = np.concatenate([PRIORITY[table[:, slot + ROOT]] for slot in range(0, 60, SLOT_BYTES)])
    assert np.count_nonzero(seen) > 1000
    assert not np.any(seen == 1)


@pytest.mark.parametrize("text", [b"", b"a", b"ab"])
def test_a_table_of_hardly_any_text_is_empty(small_tables, text):
    assert not primer.prime_table(text, 1).any()


def test_a_learnt_state_survives_packing_but_for_rounding_and_caps():
    state = _fresh_state()
    state["weights"] += 0.37
    state["histories"] |= np.uint32(1000)
    once = unpack_learnt(pack_learnt(state))
    twice = unpack_learnt(pack_learnt(once))
    for name, array in state.items():
        assert np.array_equal(once[name], twice[name])
        assert once[name].dtype == array.dtype and once[name].shape == array.shape
    assert np.allclose(once["weights"], state["weights"], atol=1e-3)
    assert int((once["histories"] & 1023).max()) < 100


def test_text_gains_by_the_primer_and_comes_back():
    text = Path(nczip.__file__).read_bytes() + Path(store.__file__).read_bytes()
    primed = nczip.compress(text, "fast")
    plain = nczip.compress(text, "fast", primer=False)
    # The network, which both have, knows some of what the primer does.
    assert len(primed) < 0.93 * len(plain)
    known = store.load_primer(store.identify(), None)
    alone = [
        encode(b"", text, CodecSettings(16, 1, None, p, without=frozenset({"network"})))
        for p in (known, None)
    ]
    assert len(alone[0]) < 0.85 * len(alone[1])
    assert nczip.decompress(primed) == nczip.decompress(plain) == text


@pytest.mark.parametrize(
    "data", [records(20_000), noise(20_000), b"", b"x", b"\0" * 5000, b"ab" * 90_000]
)
def test_what_is_not_text_names_no_primer(data):
    packed = nczip.compress(data, "fast")
    assert packed == nczip.compress(data, "fast", primer=False)
    assert parse_header(packed)[0].primer == 0


def test_blocks_of_text_and_of_bytes_in_one_stream_come_back():
    data = english(20_000) + records(20_000) + english(20_000, 3)
    packed = nczip.compress(data, "fast", block_size=20_000)
    assert nczip.decompress(packed) == data


def test_another_primer_is_refused_by_name(monkeypatch):
    packed = nczip.compress(english(5000), "fast")
    fingerprint = parse_header(packed)[0].primer
    monkeypatch.setattr(store, "identify", lambda layout: fingerprint ^ 1)
    with pytest.raises(nczip.PrimerError, match=f"{fingerprint:08x}.*version of nczip"):
        nczip.decompress(packed)


def test_a_missing_primer_is_an_error_that_says_what_to_do(small_primer, monkeypatch, tmp_path):
    (manifest.FOLDER / "learnt.npz.zst").unlink()
    _forget()
    with pytest.raises(nczip.PrimerError, match="--no-primer"):
        nczip.compress(english(5000), "fast")
    assert nczip.compress(english(5000), "fast", primer=False)


def test_a_primed_block_without_a_primer_in_the_header_is_damage():
    packed = nczip.compress(english(5000), "fast")
    header, at = parse_header(packed)
    assert header.primer
    head = pack_header(replace(header, primer=0))
    block, start = parse_block_header(packed[at:], header, Place(member_check(packed[:at]), 0))
    payload = packed[at + start :][: block.payload_size]
    place = Place(member_check(head), 0)
    without = head + build_block(block.raw_size, block.raw_check, payload, place)
    with pytest.raises(nczip.CorruptError, match="names none"):
        nczip.decompress(without)


def test_the_table_is_kept_and_found_again(small_primer):
    first = _load()
    path = store.table_path()
    assert path.parent == small_primer and path.stat().st_size == 64 << 14
    changed = path.stat().st_mtime_ns
    _forget()
    second = _load()
    assert np.array_equal(first.table.data, second.table.data)
    assert path.stat().st_mtime_ns == changed
    assert [p.suffix for p in small_primer.iterdir() if p.suffix == ".part"] == []


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_table_is_made_again(small_primer, damage):
    good = _load().table.data.copy()
    path = store.table_path()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes({"flip": data, "cut": data[:1000], "empty": b""}[damage])
    _forget()
    assert np.array_equal(_load().table.data, good)
    assert path.read_bytes() == good.tobytes()


def test_where_the_table_cannot_be_kept_it_still_serves(small_primer, tmp_path, monkeypatch):
    blocked = tmp_path / "a file"
    blocked.write_bytes(b"")
    monkeypatch.setenv("NCZIP_PRIMER_CACHE", str(blocked / "cache"))
    with pytest.warns(UserWarning, match="cannot be kept"):
        assert _load().table.data.any()


def test_a_table_is_verified_once_a_day_and_when_it_was_written(small_primer, monkeypatch):
    verified = []
    note = store._note_verified
    monkeypatch.setattr(store, "_note_verified", lambda *which: verified.append(note(*which)))

    def verifications():
        verified.clear()
        _forget()
        _load()
        return len(verified)

    assert verifications() == 1
    assert verifications() == 0
    table = store.table_path()
    os.utime(table.with_suffix(".verified"), (0, time.time() - 90_000))
    assert verifications() == 1
    os.utime(table, (0, 0))
    assert verifications() == 1


def test_a_table_in_a_folder_that_others_can_write_is_not_used(small_primer):
    good = store.load_primer(store.identify(), None).table.data.copy()
    small_primer.chmod(0o777)
    _forget()
    with pytest.warns(CacheWarning, match="others can write"):
        assert np.array_equal(store.load_primer(store.identify(), None).table.data, good)


def test_a_text_that_makes_another_table_is_an_error(small_primer):
    text = (manifest.FOLDER / "manifest.toml").read_text()
    check = manifest.manifest(manifest.FOLDER)["primed-table"].xxh3
    (manifest.FOLDER / "manifest.toml").write_text(text.replace(check, "0" * 16))
    _forget()
    with pytest.raises(nczip.PrimerError, match="please report"):
        _load()


def _load_in_child(home, cache, bits, results):
    import os

    os.environ["NCZIP_PRIMER_CACHE"] = cache
    primer.TABLE_BITS = bits
    manifest.FOLDER = Path(home)
    _forget()
    results.put(hashlib.sha256(_load().table.data).hexdigest())


def test_processes_that_start_together_get_the_same_table(small_primer):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    arguments = (str(manifest.FOLDER), str(small_primer), 14, results)
    children = [context.Process(target=_load_in_child, args=arguments) for _ in range(4)]
    for child in children:
        child.start()
    hashes = {results.get(timeout=120) for _ in children}
    for child in children:
        child.join()
    assert len(hashes) == 1


def test_the_command_line_knows_the_primer(tmp_path):
    source = tmp_path / "a.txt"
    source.write_bytes(english(8000))
    runner = CliRunner()
    for option, expected in (("--primer", f"{store.identify():08x}"), ("--no-primer", None)):
        arguments = ["c", "-f", "--preset", "fast", option, str(source)]
        assert runner.invoke(cli, arguments).exit_code == 0
        listing = runner.invoke(cli, ["l", "--json", f"{source}.ncz"]).output
        assert (
            f'"primer": {"null" if expected is None else chr(34) + expected + chr(34)}' in listing
        )
        packed = (tmp_path / "a.txt.ncz").read_bytes()
        assert nczip.decompress(packed) == source.read_bytes()


def test_who_waits_for_the_primer_is_told_once(small_primer):
    said = []
    for _ in range(2):
        nczip.compress(english(5000), "fast", announce=said.append)
    assert len(said) == 1 and "primer" in said[0]
