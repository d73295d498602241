"""The examples of docs/ do what they say."""

import doctest
import importlib.util
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import nczip

_DOCS = Path(__file__).parents[1] / "docs"
#: Packages that an example needs, by the words in it.
_NEEDS = ("fsspec", "pandas", "dask", "zarr", "joblib", "smart_open", "datasets", "pyarrow")


def examples(page):
    """The examples of a page, each group of lines under its heading."""
    text = (_DOCS / page).read_text()
    sections = re.split(r"^## ", text, flags=re.MULTILINE)
    return {part.partition("\n")[0]: part for part in sections[1:] if ">>>" in part}


def check(source, names, page):
    test = doctest.DocTestParser().get_doctest(source, names, page, page, 0)
    report = []
    runner = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert runner.run(test, out=report.append, clear_globs=False).attempted
    assert not runner.failures, "".join(report)
    names.update(test.globs)


def test_examples_for_python_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for title, source in examples("python.md").items():
        check(source, names, title)


def test_examples_for_other_libraries_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    parts = examples("integrations.md")
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (the extra [integrations], and more)")
    names = {"nczip": nczip, "os": os}
    for title, source in parts.items():
        check(source, names, title)


def test_the_logging_handler_of_the_docs_survives_a_crash(tmp_path):
    section = examples("python.md")["Logging that survives a crash"]
    source = doctest.script_from_examples(section).partition("log = logging")[0]
    script = tmp_path / "service.py"
    script.write_text(
        "import nczip\n"
        + source
        + textwrap.dedent("""
            log = logging.getLogger()
            log.setLevel(logging.INFO)
            log.addHandler(NczipHandler("service.log.ncz", capacity=100, primer=False))
            for number in range(250):
                log.info("record %d", number)
            print("ready", flush=True)
            input()
            """)
    )
    command = [sys.executable, str(script)]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stdin=subprocess.PIPE
    ) as run:
        assert run.stdout.readline() == b"ready\n"
        run.send_signal(signal.SIGKILL)
    lines = nczip.open(tmp_path / "service.log.ncz", "rt").read().splitlines()
    assert lines == [f"record {number}" for number in range(200)]
    # The next run appends.
    names = {"nczip": nczip}
    exec(compile(source, "docs", "exec"), names)
    handler = names["NczipHandler"](tmp_path / "service.log.ncz", primer=False)
    record = logging.LogRecord("docs", logging.ERROR, "", 0, "back again", (), None)
    handler.handle(record)
    handler.close()
    assert nczip.open(tmp_path / "service.log.ncz", "rt").read().splitlines()[-1] == "back again"
