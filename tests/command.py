"""The command line in this process, which spares a start of Python for each call."""

import sys
from dataclasses import dataclass

import pytest

from nczip.cli import main

FAST = ("--preset", "fast", "--no-primer")


@dataclass
class Result:
    code: int
    out: bytes
    err: str


class Command:
    """Calls ``nczip`` with arguments; what is compressed is compressed fast."""

    def __init__(self, monkeypatch, capture):
        self._monkeypatch = monkeypatch
        self._capture = capture

    def __call__(self, *arguments, stdin=None):
        words = [str(argument) for argument in arguments]
        if words[:1] == ["c"]:
            words[1:1] = FAST
        self._capture.readouterr()
        with self._monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["nczip", *words])
            patch.setattr(sys, "stdin", stdin)
            code = 0
            try:
                main()
            except SystemExit as left:
                code = left.code or 0
        out, err = self._capture.readouterr()
        assert b"Traceback" not in err
        return Result(code, out, err.decode())


@pytest.fixture
def nczip_command(monkeypatch, capfdbinary, tmp_path):
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capfdbinary)
