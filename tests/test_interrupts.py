"""Signals, closed streams, readers that go and disks that are full, seen from outside."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests_support import english, noise

import nczip
from nczip.sinks import part_name

CHECKOUT = Path(__file__).resolve().parents[1]
FAST = ("--preset", "fast", "--no-primer")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(CHECKOUT)}


def start(*arguments, **options):
    command = [sys.executable, "-m", "nczip", *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, **options)


def shell(line, folder):
    """A line of shell in which nczip stands for itself."""
    line = line.replace("nczip", f"{sys.executable} -m nczip")
    return subprocess.run(
        ["sh", "-c", line], cwd=folder, env=ENVIRONMENT, capture_output=True, timeout=300,
        check=False,
    )  # fmt: skip


@pytest.fixture
def long_job(tmp_path):
    """A run that takes some ten seconds in one kernel; its folder."""
    source = tmp_path / "text"
    source.write_bytes(english(4_000_000))
    return source


def wait_until_coding(process, part):
    deadline = time.monotonic() + 120
    while not part.exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(2)  # into the kernel
    assert process.poll() is None


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_run_within_seconds_and_leaves_nothing(long_job, name):
    number = getattr(signal, name)
    target = long_job.with_name("text.ncz")
    process = start("c", *FAST, "-R", long_job)
    wait_until_coding(process, long_job.with_name(part_name(target)))
    sent = time.monotonic()
    process.send_signal(number)
    _, message = process.communicate(timeout=60)
    # A second, on a machine that has other things to do; the block would take ten.
    assert time.monotonic() - sent < 4
    assert process.returncode == -number
    assert message == b"nczip: interrupted\n"
    assert [path.name for path in long_job.parent.iterdir()] == ["text"]


def test_a_signal_that_callers_ignore_stays_ignored(tmp_path):
    (tmp_path / "file").write_bytes(noise(3000))
    process = start(
        "c", *FAST, tmp_path / "file", "-",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    while not (tmp_path / "file.ncz").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(b"bytes", timeout=60)
    assert process.returncode == 0 and nczip.decompress(out) == b"bytes"


def test_a_run_with_resume_leaves_its_part_file_when_it_is_interrupted(long_job):
    target = long_job.with_name("text.ncz")
    part = long_job.with_name(part_name(target))
    process = start("c", *FAST, "--resume", "--block-size", "64k", "-T1", long_job)
    while not part.exists() or part.stat().st_size < 30_000:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert part.stat().st_size >= 30_000 and not target.exists()


def test_a_reader_that_goes_ends_a_run_as_it_ends_others(tmp_path):
    (tmp_path / "file.ncz").write_bytes(nczip.compress(noise(300_000), "fast", primer=False))
    process = start("d", "-c", tmp_path / "file.ncz", stdout=subprocess.PIPE)
    process.stdout.close()
    _, message = process.communicate(timeout=60)
    assert (process.returncode, message) == (-signal.SIGPIPE, b"")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nczip d <&-", b"standard input is closed"),
        ("nczip d -c file.ncz >&-", b"standard output is closed"),
        ("nczip l file.ncz >&-", b"standard output is closed"),
        ("nczip d -c file.ncz >/dev/full", b"No space left"),
        ("PYTHONUNBUFFERED=1 nczip d -c file.ncz >/dev/full", b"No space left"),
        ("nczip d -c nowhere.ncz file.ncz >/dev/null", b"No such file"),
        ("nczip d -c file.ncz >>file.ncz", b"standard output is the input"),
    ],
)
def test_streams_that_do_not_serve_are_errors(tmp_path, line, words):
    (tmp_path / "file.ncz").write_bytes(nczip.compress(noise(3000), "fast", primer=False))
    before = (tmp_path / "file.ncz").read_bytes()
    run = shell(line, tmp_path)
    assert run.returncode == 1
    assert words in run.stderr and run.stderr.count(b"\n") == 1
    assert (tmp_path / "file.ncz").read_bytes() == before


def test_closed_streams_do_not_disturb_files(tmp_path):
    """A file that gets the descriptor of standard error gets its messages, too."""
    (tmp_path / "file").write_bytes(noise(3000))
    run = shell("nczip c -v --preset fast --no-primer file <&- >&- 2>&-", tmp_path)
    assert run.returncode == 0
    assert nczip.decompress((tmp_path / "file.ncz").read_bytes()) == noise(3000)


def test_a_pipe_in_non_blocking_mode_is_read_to_its_end(tmp_path):
    """It answers "nothing yet", which must not pass for the end."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    process = start("c", *FAST, "-o", tmp_path / "out", stdin=reading)
    os.close(reading)
    data = noise(9000)
    for at in range(0, 9000, 3000):
        time.sleep(0.5)
        os.write(writing, data[at : at + 3000])
    os.close(writing)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert nczip.decompress((tmp_path / "out").read_bytes()) == data


def test_an_unbuffered_pipe_gets_everything(tmp_path):
    data = noise(3_000_000)
    (tmp_path / "file.ncz").write_bytes(nczip.compress(data, "fast", primer=False))
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "nczip", "d", "-c", str(tmp_path / "file.ncz")],
        env=ENVIRONMENT, stdout=subprocess.PIPE,
    )  # fmt: skip
    os.set_blocking(process.stdout.fileno(), True)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and out == data
