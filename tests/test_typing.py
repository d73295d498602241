"""Type checkers know what open() returns, and which options go with which mode."""

import re
from pathlib import Path

import pytest

_CHECKED = Path(__file__).parent / "typing" / "opened.py"


def test_mypy_finds_exactly_the_errors_that_are_there(monkeypatch, tmp_path):
    api = pytest.importorskip("mypy.api", reason="mypy is not installed")
    root = Path(__file__).parents[1]
    monkeypatch.setenv("MYPYPATH", str(root))
    monkeypatch.chdir(tmp_path)
    out, err, _ = api.run(
        ["--config-file", str(root / "pyproject.toml"), "--follow-imports=silent",
         "--cache-dir", str(root / ".mypy_cache"), str(_CHECKED)]
    )  # fmt: skip
    assert not err
    found = {int(line) for line in re.findall(r"opened\.py:(\d+): error:", out)}
    lines = _CHECKED.read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if "# WRONG" in line}
    assert found == wrong, out
