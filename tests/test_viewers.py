"""nczgrep and nczless: grep and less over what files hold."""

import os
import subprocess
import sys

import pytest

import nczip

TEXT = b"one apple\ntwo pears\nThree apples\nfour\nfive\nsix\nseven\n"


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain").write_bytes(TEXT)
    (tmp_path / "packed.ncz").write_bytes(nczip.compress(TEXT, 1, primer=False))
    (tmp_path / "-odd.ncz").write_bytes(nczip.compress(b"apple [x]\n", 1, primer=False))
    (tmp_path / "patterns").write_bytes(b"pears\nseven\n")
    return tmp_path


def call(program, *words, data=None, **environment):
    command = [sys.executable, "-c", f"import nczip.viewers as v; v.{program}()", *words]
    done = subprocess.run(
        command, input=data, capture_output=True, check=False, env=os.environ | environment
    )
    assert b"Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(
    "words",
    [
        ["apple"], ["-i", "THREE"], ["-c", "apple"], ["-n", "-A1", "pears"], ["-2", "four"],
        ["-e", "apple", "-e", "six"], ["-oE", "[a-z]+s$"], ["-v", "e"], ["-vc", "e"], ["nothing"],
        ["-q", "apple"], ["-q", "nothing"], ["-f", "patterns"], ["--regexp=four"], ["-m", "1", "p"],
        ["--color=always", "four"], ["--regexp", "four"], ["-hn", "four"], ["-H", "four"],
        ["-l", "four"], ["-L", "four"], ["-w", "-m1", "--context=1", "four"], ["-ie", "FOUR"],
    ],
)  # fmt: skip
def test_grep_finds_what_it_finds_in_the_plain_file(words):
    mine = call("nczgrep", *words, "packed.ncz")
    theirs = subprocess.run(["grep", *words, "plain"], capture_output=True, check=False)
    assert mine.stdout.replace(b"packed.ncz", b"plain") == theirs.stdout
    assert mine.returncode == theirs.returncode
    assert call("nczgrep", *words, "plain").stdout == theirs.stdout


def test_several_files_are_named():
    done = call("nczgrep", "apple$", "packed.ncz", "plain", "--", "-odd.ncz")
    assert done.stdout == b"packed.ncz:one apple\nplain:one apple\n"
    assert call("nczgrep", "-h", "-F", "[x]", "plain", "./-odd.ncz").stdout == b"apple [x]\n"
    assert call("nczgrep", "-l", "x", "--", "plain", "-odd.ncz").stdout == b"plain\n-odd.ncz\n"


def test_standard_input_is_searched(files):
    data = (files / "packed.ncz").read_bytes()
    assert call("nczgrep", "pears", data=data).stdout == b"two pears\n"
    assert call("nczgrep", "-H", "pears", "-", data=TEXT).stdout == b"(standard input):two pears\n"


def test_errors_have_grep_s_exit_code_and_the_rest_is_done(files):
    (files / "damaged.ncz").write_bytes((files / "packed.ncz").read_bytes()[:-1])
    for words in (["apple"], ["-r", "x", "."], ["--include=x", "y"], ["apple", "damaged.ncz"]):
        done = call("nczgrep", *words, *(["missing", "plain"] if len(words) == 1 else []))
        assert done.returncode == 2 and done.stderr.startswith(b"nczip: ")
    assert b"one apple" in call("nczgrep", "apple", "missing", "plain").stdout
    assert call("nczgrep").returncode == 2
    assert call("nczgrep", "-E", "(", "plain").returncode == 2
    assert call("nczgrep", "x", "plain", PATH="").returncode == 2
    assert b"Usage" in call("nczgrep", "--help").stdout


def test_grep_that_has_seen_enough_stops_nothing(files):
    (files / "long.ncz").write_bytes(nczip.compress(b"apple\n" * 300_000, 1, primer=False))
    assert call("nczgrep", "-m1", "apple", "long.ncz").stdout == b"apple\n"


def test_less_shows_what_files_hold(files):
    for name in ("packed.ncz", "plain", "./-odd.ncz"):
        raw = b"apple [x]\n" if "odd" in name else TEXT
        assert call("nczless", name).stdout == raw
    assert call("nczless", data=(files / "packed.ncz").read_bytes()).stdout == TEXT


def test_less_runs_no_module_of_the_folder(files):
    (files / "nczip.py").write_text("raise SystemExit('not me')")
    command = [sys.executable, "-P", "-c", "import nczip.viewers as v; v.nczless()", "packed.ncz"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == TEXT


def test_without_less_there_is_an_error():
    done = call("nczless", "plain", PATH="")
    assert done.returncode == 2 and done.stderr == b"nczip: less is not installed\n"
