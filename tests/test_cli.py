"""The command line, run as users run it."""

import json
import os
import pty
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests_support import english

from nczip.presets import BUILT_IN

CHECKOUT = Path(__file__).resolve().parents[1]
DATA = english(9000)


def nczip(*arguments, data=None, **options):
    command = [sys.executable, "-m", "nczip", *map(str, arguments)]
    return subprocess.run(
        command, input=data, capture_output=True, timeout=300, check=False, **options
    )


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(DATA)
    path.chmod(0o640)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    return path


def failed(run, *words):
    """One line on stderr with these words, a non-zero exit code, no traceback."""
    message = run.stderr.decode()
    assert run.returncode != 0
    assert message.startswith("nczip: ") and message.count("\n") == 1, message
    for word in words:
        assert word in message
    return True


def test_a_file_makes_the_round_trip_with_times_and_mode(text):
    assert nczip("c", "--preset", "fast", text).returncode == 0
    packed = text.with_name("text.txt.ncz")
    assert text.exists()
    assert packed.stat().st_size < len(DATA) / 2
    assert packed.stat().st_mtime == 1_000_000_000
    text.unlink()
    assert nczip("d", packed).returncode == 0
    assert text.read_bytes() == DATA
    assert stat.S_IMODE(text.stat().st_mode) == 0o640
    assert text.stat().st_mtime == 1_000_000_000


def test_pipes_work_both_ways():
    packed = nczip("c", "--preset", "fast", data=DATA).stdout
    assert nczip("d", data=packed).stdout == DATA
    assert nczip("d", "-", data=packed).stdout == DATA


def test_an_existing_output_needs_force(text):
    packed = text.with_name("text.txt.ncz")
    packed.write_bytes(b"precious")
    assert failed(nczip("c", "--preset", "fast", text), "exists", "-f")
    assert packed.read_bytes() == b"precious"
    assert nczip("c", "-f", "--preset", "fast", text).returncode == 0
    assert nczip("t", packed).returncode == 0


def test_remove_deletes_the_input_only_after_success(text):
    assert nczip("c", "--remove", "--preset", "fast", text).returncode == 0
    assert not text.exists()
    packed = text.with_name("text.txt.ncz")
    packed.write_bytes(packed.read_bytes()[:-5])
    assert failed(nczip("d", "--remove", packed), "text.txt.ncz")
    assert packed.exists()
    assert not text.exists()
    assert [p.name for p in text.parent.iterdir()] == ["text.txt.ncz"]


def test_several_files_go_on_after_an_error(text):
    other = text.with_name("other")
    other.write_bytes(b"other")
    run = nczip("c", "--preset", "fast", text, "missing", other)
    assert failed(run, "missing", "No such file")
    assert other.with_name("other.ncz").exists()
    assert text.with_name("text.txt.ncz").exists()


def test_damage_is_one_line_on_stderr(text):
    packed = bytearray(nczip("c", "--preset", "fast", data=DATA).stdout)
    packed[len(packed) // 2] ^= 8
    assert failed(nczip("d", data=bytes(packed)), "standard input", "damaged")
    assert failed(nczip("t", data=bytes(packed[:100])), "ends before")
    assert failed(nczip("d", data=b"plain text"), "not an nczip stream")
    assert failed(nczip("d", text), "suffix")
    assert failed(nczip("d", "."), "suffix")
    assert failed(nczip("c", "."), "directory")


def test_wrong_usage_is_one_line_on_stderr(text):
    assert failed(nczip("x"), "x: No such file")
    assert failed(nczip("c", "--preset", "best", text), "preset", "level")
    assert failed(nczip("c", "--lanes", "0", text), "lanes")
    assert failed(nczip("c", "-o", "a", text, text), "one file")
    assert failed(nczip("c", "-o", "a", "-c", text), "exclude")
    assert failed(nczip("c", "--model", "nowhere", text), "no model 'nowhere'")
    assert failed(nczip("c", "--block-size", "many", text), "not a size")


def test_listing_reads_only_the_index(text):
    assert nczip("c", "--preset", "fast", "--block-size", "4k", text).returncode == 0
    packed = text.with_name("text.txt.ncz")
    (entry,) = json.loads(nczip("l", "--json", packed).stdout)
    assert entry["raw_size"] == len(DATA)
    assert entry["compressed_size"] == packed.stat().st_size
    assert entry["blocks"] == 3
    assert entry["engine"] == "none"
    table = nczip("l", packed).stdout.decode()
    assert "text.txt.ncz" in table and "9,000" in table
    assert failed(nczip("l", text), "not an nczip stream")


def test_compressed_data_is_not_written_to_a_terminal():
    leader, follower = pty.openpty()
    run = subprocess.run(
        [sys.executable, "-m", "nczip", "c", "--preset", "fast"],
        input=DATA, stdout=follower, stderr=subprocess.PIPE, timeout=300, check=False,
    )  # fmt: skip
    os.close(leader)
    os.close(follower)
    assert failed(run, "terminal")


def test_a_progress_bar_appears_on_a_terminal_only(text):
    assert nczip("c", "-f", "--preset", "fast", text).stderr == b""
    leader, follower = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "nczip", "c", "-f", "--preset", "fast", text],
        stderr=follower, timeout=300, check=True,
    )  # fmt: skip
    os.close(follower)
    assert b"text.txt" in os.read(leader, 10_000)
    os.close(leader)


def test_an_existing_suffix_is_not_added_twice(text):
    packed = text.with_name("text.txt.ncz")
    packed.write_bytes(b"x")
    assert failed(nczip("c", "--preset", "fast", packed), "suffix")


def test_the_first_run_says_that_it_compiles(text, tmp_path):
    environment = os.environ | {"NCZIP_KERNEL_CACHE": str(tmp_path / "kernels")}
    run = nczip("t", "missing", env=environment)
    assert b"compiling kernels" in run.stderr


def test_the_engine_can_be_chosen(text, corpora):
    prose = (corpora / "canterbury" / "alice29.txt").read_bytes()[:20_000]  # worth naming a model
    text.write_bytes(prose)
    assert nczip("c", "--engine", "exact", text).returncode == 0
    packed = text.with_name("text.txt.ncz")
    (entry,) = json.loads(nczip("l", "--json", packed).stdout)
    assert (entry["engine"], entry["model"]) == ("exact", BUILT_IN)
    assert nczip("d", "-c", packed).stdout == prose


def test_verbose_reports_sizes(text):
    run = nczip("c", "-v", "--preset", "fast", text)
    assert b"9000 ->" in run.stderr and b"kB/s" in run.stderr


def test_help_is_quick():
    nczip("--help")
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run = nczip("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Processor time: the machine may be busy with something else.
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert b"Lossless compression" in run.stdout
    assert min(times) < 0.4
