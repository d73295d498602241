"""Power loss, full disks and broken ones, at every single call that changes a file.

What must hold after each: the input is as it was, or the output is complete; a file under its final
name is complete; the next run succeeds and leaves nothing of the one that crashed.
"""

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests_support import noise

import nczip
from nczip.sinks import PART_SUFFIX

HERE = Path(__file__).parent / "crash"
DATA = noise(5000)
KINDS = {"kill": 0, "no space": 1, "I/O error": 2, "short write": 3}
FAST = ["--preset", "fast", "--no-primer", "--block-size", "2k"]
COMMANDS = {
    "c": ["c", *FAST, "-T1", "file"],
    "c -R": ["c", *FAST, "-T1", "-R", "file"],
    "c -f": ["c", *FAST, "-T1", "-f", "file"],
    "c --resume": ["c", *FAST, "-T1", "--resume", "file"],
    "d": ["d", "-T1", "file.ncz"],
    "d -R": ["d", "-T1", "-R", "file.ncz"],
}


@functools.cache
def _packed():
    return nczip.compress(DATA, "fast", primer=False, block_size=2048)


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """The preload library."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler, or not Linux")
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, HERE / "faults.c", "-ldl"], check=True
    )
    return library


@pytest.fixture(scope="module")
def folder():
    """In memory where that is possible: every run waits for the disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def crash(faults, folder):
    """Calls the command line in ``folder``, struck at its k-th call; returns (code, calls)."""
    root = Path(__file__).resolve().parents[1]
    environment = os.environ | {"LD_PRELOAD": str(faults), "PYTHONPATH": str(root)}
    process = subprocess.Popen(
        [sys.executable, HERE / "driver.py", faults, folder],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip

    def run(arguments, kind="kill", at=-1):
        job = {"arguments": arguments, "kind": KINDS[kind], "at": at}
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        assert answer["code"] != 99
        return answer["code"], answer["calls"]

    yield run
    process.stdin.close()
    process.wait(timeout=60)


def _lay_out(folder, command):
    """The input, and with -f an older output; returns the names of both and the input's content."""
    for path in folder.iterdir():
        path.unlink()
    if command.startswith("d"):
        (folder / "file.ncz").write_bytes(_packed())
        return "file.ncz", _packed(), "file"
    (folder / "file").write_bytes(DATA)
    if "-f" in command:
        (folder / "file.ncz").write_bytes(b"older")
    return "file", DATA, "file.ncz"


def _is_complete(path):
    if not path.exists():
        return False
    content = path.read_bytes()
    if content == b"older":
        return False
    raw = nczip.decompress(content) if path.suffix == ".ncz" else content
    assert raw == DATA, "a partial file under its final name"
    return True


_QUICK = {("c -R", "kill"), ("c -R", "no space"), ("d -R", "kill"), ("d -R", "short write")}


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        pytest.param(command, kind, marks=() if (command, kind) in _QUICK else pytest.mark.slow)
        for command in COMMANDS
        for kind in KINDS
    ],
)
def test_nothing_is_lost_whichever_call_fails(crash, folder, command, kind):
    _lay_out(folder, command)
    code, calls = crash(COMMANDS[command])
    assert code == 0 and 4 <= calls < 100
    for at in range(calls):
        name, content, output = _lay_out(folder, command)
        code, _ = crash(COMMANDS[command], kind, at)
        complete = _is_complete(folder / output)
        assert complete or (folder / name).read_bytes() == content, "a lost input"
        if kind == "kill":
            assert code == -9
        elif kind == "short write":
            assert code == 0 and complete
        if code == 0:
            assert complete
        if kind != "kill" and command != "c --resume":
            assert not [path for path in folder.iterdir() if path.name.endswith(PART_SUFFIX)]
        if (folder / name).exists():
            again = COMMANDS[command] + ([] if "-f" in command else ["-f"])
            assert crash(again)[0] == 0
        assert _is_complete(folder / output)
        assert not [path for path in folder.iterdir() if path.name.endswith(PART_SUFFIX)]
