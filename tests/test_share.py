"""What is installed beside the package: manual, completions, magic and MIME type."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

import nczip
from nczip.cli import cli
from nczip.formats.container import MAGIC, SKIPPABLE_MAGIC, VERSION

CHECKOUT = Path(__file__).resolve().parents[1]
SHARE = CHECKOUT / "share"
MANUAL = SHARE / "man" / "man1" / "nczip.1"
BASH = SHARE / "bash-completion" / "completions" / "nczip"


def maker():
    spec = importlib.util.spec_from_file_location("share_make", SHARE / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def program(name):
    return shutil.which(name) or pytest.skip(f"{name} is not installed")


def test_the_manual_is_what_the_command_line_says():
    assert MANUAL.read_text() == maker().manual(), "run: python share/make.py"


def test_the_manual_has_every_option():
    text = MANUAL.read_text().replace("\\", "")
    for letter in "cdtl":
        for param in cli.commands[letter].params:
            for name in [*param.opts, *param.secondary_opts]:
                assert name in text


def test_the_manual_is_set_without_warnings():
    done = subprocess.run(
        [program("groff"), "-man", "-Tutf8", "-ww", MANUAL], capture_output=True, check=True
    )
    assert done.stderr == b"" and "nczgrep" in done.stdout.decode()


def test_other_names_have_the_same_page():
    for name in ("unncz", "nczcat", "nczgrep", "nczless"):
        assert MANUAL.with_name(f"{name}.1").read_text() == ".so man1/nczip.1\n"
    man = program("man")
    page = subprocess.run(
        [man, "nczgrep"], capture_output=True, check=False,
        env=os.environ | {"MANPATH": str(SHARE / "man"), "MANPAGER": "cat"},
    )  # fmt: skip
    if b"minimized" in page.stdout:
        pytest.skip("man is not installed, but what says so")
    assert b"SYNOPSIS" in page.stdout


def test_all_of_it_goes_with_the_wheel():
    text = (CHECKOUT / "pyproject.toml").read_text()
    places = tomllib.loads(text)["tool"]["setuptools"]["data-files"]
    installed = {}
    for place, patterns in places.items():
        for pattern in patterns:
            for path in CHECKOUT.glob(pattern):
                installed[path] = Path(place, path.name)
    made = {
        path for path in SHARE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert set(installed) == made
    assert all(CHECKOUT / place == path for path, place in installed.items())


def complete(*words, folder=None):
    """What bash offers for the last word."""
    script = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }; '
        '_nczip_completion nczip; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [program("bash"), "-c", script, "bash", BASH, "nczip", *words],
        capture_output=True, check=True, cwd=folder,
        env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.stderr == b""
    return done.stdout.decode().split()


@pytest.fixture
def folder(tmp_path):
    script = tmp_path / "nczip"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m nczip "$@"\n')
    script.chmod(0o755)
    (tmp_path / "book.txt").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["mo"], ["models"]),
        (["--out"], ["--output", "--output-dir-flat", "--output-dir-mirror"]),
        (["c", "--output-dir-"], ["--output-dir-flat", "--output-dir-mirror"]),
        (["d", "--sal"], ["--salvage"]),
        (["book.txt", "--pre"], ["--preset"]),
        (["-dk", "--unt"], ["--untar"]),
        (["c", "--preset", "f"], ["fast"]),
        (["c", "--engine", ""], ["exact", "llama"]),
        (["models", "pu"], ["pull"]),
        (["bo"], []),  # left to the shell, which knows files
    ],
)
def test_bash_completes(folder, words, offered):
    assert complete(*words, folder=folder) == offered


@pytest.mark.parametrize(
    ("shell", "place"),
    [("bash", BASH), ("zsh", SHARE / "zsh/site-functions/_nczip"),
     ("fish", SHARE / "fish/vendor_completions.d/nczip.fish")],
)  # fmt: skip
def test_completions_are_valid_scripts(shell, place):
    assert "_NCZIP_COMPLETE" in place.read_text()
    subprocess.run([program(shell), "-n", place], check=True, capture_output=True)


@pytest.mark.parametrize(("shell", "at"), [("zsh", "2"), ("fish", "--out")])
def test_what_scripts_of_other_shells_ask_is_answered(shell, at):
    words = {"COMP_WORDS": "nczip c --out", "COMP_CWORD": at}
    environment = os.environ | words | {"_NCZIP_COMPLETE": f"{shell}_complete"}
    done = subprocess.run(
        [sys.executable, "-m", "nczip"], capture_output=True, check=True, env=environment
    )
    assert done.stderr == b"" and b"--output-dir-flat" in done.stdout


def test_file_knows_an_archive(tmp_path):
    magic = SHARE / "nczip" / "nczip.magic"
    (tmp_path / "a").write_bytes(nczip.compress(b"some bytes", 1, primer=False))
    (tmp_path / "b").write_bytes(SKIPPABLE_MAGIC + bytes([3, 0, 0, 0]) + b"abc")
    tell = [program("file"), "-b", "-m", magic]

    def told(*words):
        return subprocess.run([*tell, *words], capture_output=True, check=True).stdout.decode()

    assert told(tmp_path / "a") == f"nczip compressed data, format version {VERSION}\n"
    assert told(tmp_path / "b") == "nczip skippable frame, 3 bytes\n"
    assert told("--mime-type", tmp_path / "a") == "application/x-nczip\n"
    assert told("--extension", tmp_path / "a") == "ncz/tncz\n"


def test_desktops_know_an_archive(tmp_path):
    path = SHARE / "mime" / "packages" / "nczip.xml"
    names = {"m": "http://www.freedesktop.org/standards/shared-mime-info"}
    root = ElementTree.parse(path).getroot()
    globs = {
        kind.get("type"): [glob.get("pattern") for glob in kind.iterfind("m:glob", names)]
        for kind in root.iterfind("m:mime-type", names)
    }
    assert globs["application/x-nczip"] == ["*.ncz"]
    assert globs["application/x-nczip-compressed-tar"] == ["*.tar.ncz", "*.tncz"]
    values = [int(match.get("value"), 16) for match in root.iterfind(".//m:match", names)]
    assert values == [int.from_bytes(magic, "big") for magic in (MAGIC, SKIPPABLE_MAGIC)]
    update = shutil.which("update-mime-database")
    if update is not None:
        (tmp_path / "packages").mkdir()
        shutil.copy(path, tmp_path / "packages")
        subprocess.run([update, tmp_path], check=True, capture_output=True)
        assert "application/x-nczip:*.ncz" in (tmp_path / "globs").read_text()
