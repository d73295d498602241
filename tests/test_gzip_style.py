"""Calls without a command: what fingers know of gzip, xz and zstd.

What the commands do is tested in test_habits.py; here, that the same call in gzip's words does it.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard
from command import nczip_command  # noqa: F401
from tests_support import english, noise

import nczip
from nczip import estimate
from nczip.habits import nczcat, unncz
from nczip.presets import LEVELS

DATA = noise(9000)
QUICK = ("-1", "--no-primer")
NCZIP = (sys.executable, "-m", "nczip")


@pytest.fixture
def run(nczip_command):  # noqa: F811
    return nczip_command


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def packed(tmp_path):
    path = tmp_path / "packed.ncz"
    path.write_bytes(nczip.compress(DATA, 1, primer=False, block_size=1024))
    return path


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# The modes.


def test_a_file_is_compressed_and_kept(run, plain, tmp_path):
    assert run(*QUICK, plain).code == 0
    assert names(tmp_path) == ["file", "file.ncz"]
    assert nczip.decompress((tmp_path / "file.ncz").read_bytes()) == DATA


def test_it_is_the_command_in_other_words(run, plain, packed, tmp_path):
    run(*QUICK, "-o", "one", plain)
    run("c", "--preset", "swift", "-o", "other", plain)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert run("-l", "--json", packed).out == run("l", "--json", packed).out
    assert run("-l", packed).out == run("l", packed).out
    assert run("-dc", "--range", "5:9", packed).out == DATA[5:9]


@pytest.mark.parametrize("words", [["-d"], ["--decompress"], ["--uncompress"], ["-dk"], ["-kd"]])
def test_a_file_is_decompressed(run, packed, tmp_path, words):
    assert run(*words, packed).code == 0
    assert names(tmp_path) == ["packed", "packed.ncz"]
    assert (tmp_path / "packed").read_bytes() == DATA


@pytest.mark.parametrize("words", [["-t"], ["--test"], ["-dt"], ["-tv"], ["-9t"], ["-tc"]])
def test_a_file_is_tested(run, packed, tmp_path, words):
    assert run(*words, packed).code == 0
    assert names(tmp_path) == ["packed.ncz"]
    packed.write_bytes(packed.read_bytes()[:-1])
    assert run(*words, packed).code == 1


def test_short_options_combine_and_may_stand_behind_files(run, plain, packed, tmp_path):
    result = run("-dkvf", packed)
    assert result.code == 0 and b"9000 bytes" in result.err.encode()
    assert run(packed, "-dkc").out == DATA
    assert nczip.decompress(run("--no-primer", plain, "-1c").out) == DATA
    assert run("-9nfqT0", "--no-primer", "-1", plain).code == 0  # the last level counts


@pytest.mark.parametrize("words", ["--rm", "-R", "--remove"])
def test_inputs_are_removed_on_request_after_verification(run, plain, tmp_path, words):
    assert run(*QUICK, words, plain).code == 0
    assert names(tmp_path) == ["file.ncz"]
    assert run("-d", "--rm", "file.ncz").code == 0
    assert names(tmp_path) == ["file"]
    assert run(*QUICK, "--rm", "-k", plain).code == 0
    assert names(tmp_path) == ["file", "file.ncz"]


def test_files_named_like_commands_are_reached(run, tmp_path):
    for name in ("c", "d", "models"):
        (tmp_path / name).write_bytes(DATA)
        assert run(*QUICK, f"./{name}").code == 0
        assert run("-f", *QUICK, "--", name).code == 0
        assert run("-dc", f"{name}.ncz").out == DATA


def test_what_a_mode_has_no_use_for_is_an_error_unless_gzip_takes_it(run, packed):
    result = run("-d", "--tar", packed)
    assert result.code == 1 and "--tar is not an option of 'nczip d'" in result.err
    assert run("--salvage", packed).code == 1
    assert run("-l9kf", packed).code == 0


def test_a_file_is_found_without_its_suffix_where_it_is_to_be_decompressed(run, packed):
    assert run("-dc", "packed").out == DATA
    assert run("-l", "packed").code == 0
    assert "packed: No such file" in run(*QUICK, "packed").err


# Levels.


@pytest.mark.parametrize("level", [1, 6, 9])
def test_a_level_is_an_option(level, monkeypatch, run, plain):
    from nczip import jobs

    seen = []

    class Seen(jobs.Compressor):
        def __init__(self, preset, **options):
            seen.append(preset)
            super().__init__("fast", primer=False)

    monkeypatch.setattr(jobs, "Compressor", Seen)
    assert run(f"-{level}cv", plain).code == 0
    assert run("c", "--preset", str(level), "-c", plain).code == 0
    if level != 6:
        assert run("--fast" if level == 1 else "--best", "-c", plain).code == 0
    assert set(seen) - {"fast"} == {level}


def test_levels_that_are_none_are_named(run, plain):
    for word in ("0", "10", "best", "٣"):
        result = run("--preset", word, plain)
        assert result.code == 1 and "no level from 1 to 9" in result.err


# Standard input and output.


def test_no_arguments_are_a_filter(plain):
    with plain.open("rb") as stdin:
        command = [*NCZIP, *QUICK]
        packed = subprocess.run(command, stdin=stdin, capture_output=True, check=True).stdout
    done = subprocess.run([*NCZIP, "-d"], input=packed, capture_output=True, check=True)
    assert done.stdout == DATA
    environment = os.environ | {"NCZIP_OPT": "-1 --no-primer"}
    same = subprocess.run(
        NCZIP, input=DATA, capture_output=True, check=True, env=environment
    ).stdout
    assert same == packed


def test_terminals_are_refused(packed):
    import pty

    leader, follower = pty.openpty()
    terminal = {"stdin": follower, "stdout": follower}
    for words, reason in (((), b"written to a terminal"), (("-d",), b"read from a terminal"),
                          (("-t",), b"read from a terminal")):  # fmt: skip
        done = subprocess.run(
            [*NCZIP, *words], **terminal, stderr=subprocess.PIPE, check=False, timeout=60
        )
        assert done.returncode == 1 and reason in done.stderr
    os.close(leader)
    os.close(follower)


def test_tar_uses_it(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(DATA)
    script = tmp_path / "nczip"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m nczip --no-primer "$@"\n')
    script.chmod(0o755)

    def tar(*words, program=script):
        return subprocess.run(
            ["tar", "-I", str(program), *words], cwd=tmp_path, capture_output=True, check=True
        ).stdout

    tar("-cf", "x.tar.ncz", "folder", program=f"{script} -1")
    assert tar("-tf", "x.tar.ncz") == b"folder/\nfolder/file\n"
    (folder / "file").unlink()
    tar("-xf", "x.tar.ncz")
    assert (folder / "file").read_bytes() == DATA


def test_logrotate_and_rsync_find_what_they_expect(plain, tmp_path):
    """logrotate gives both files as standard streams; rsync -a compares size and time."""
    with plain.open("rb") as log, (tmp_path / "file.1.ncz").open("wb") as rotated:
        subprocess.run([*NCZIP, *QUICK], stdin=log, stdout=rotated, check=True)
    assert nczip.decompress((tmp_path / "file.1.ncz").read_bytes()) == DATA
    os.utime(plain, (10**9, 10**9))
    states = []
    for _ in range(2):
        subprocess.run([*NCZIP, "-f", *QUICK, plain], check=True)
        status = (tmp_path / "file.ncz").stat()
        states.append((status.st_size, status.st_mtime_ns))
    assert states[0] == states[1] and states[0][1] == 10**18


def test_what_is_not_compressed_is_copied_where_forced_to_standard_output(run, plain, packed):
    assert run("-dcf", plain, packed, plain).out == DATA * 3
    with plain.open() as stdin:
        assert run("-df", stdin=stdin).out == DATA
    assert run("-df", plain).code == 2
    assert run("-dc", plain).code == 1


# NCZIP_OPT.


def test_a_variable_gives_options_to_every_call(run, plain, packed, tmp_path, monkeypatch):
    monkeypatch.setenv("NCZIP_OPT", "-1 --no-primer -S .x --rm")
    for words in ((plain,), ("c", plain)):
        assert run(*words).code == 0
        assert names(tmp_path) == ["file.x", "packed.ncz"]
        assert run("d" if words[0] == "c" else "-d", "file.x").code == 0
        assert names(tmp_path) == ["file", "packed.ncz"]
    assert run("-k", plain).code == 0  # the call says otherwise
    assert names(tmp_path) == ["file", "file.x", "packed.ncz"]
    assert run("t", packed).code == run("-l", packed).code == 0  # which have no use for most


@pytest.mark.parametrize("words", ["file", "-d", "-1 -o x", "--range 1:2", "'-1", "--nothing"])
def test_a_variable_is_not_all_of_a_call(run, plain, monkeypatch, words):
    monkeypatch.setenv("NCZIP_OPT", words)
    result = run(*QUICK, plain)
    assert result.code == 1 and "NCZIP_OPT" in result.err and result.err.count("\n") == 1


# Many files.


@pytest.fixture
def tree(tmp_path):
    for name in ("a/one", "a/b/two", "a/b/three.ncz", "other/one"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(DATA[: 100 * len(name)])
    (tmp_path / "a" / "link").symlink_to("one")
    (tmp_path / "a" / ".x.nczip.part").write_bytes(b"at work")
    return tmp_path


def test_folders_are_gone_through_and_each_file_is_an_archive(run, tree):
    before = names(tree)
    assert run(*QUICK, "-r", "a").code == 0
    assert sorted(set(names(tree)) - set(before)) == ["a/b/two.ncz", "a/one.ncz"]
    (tree / "a/b/three.ncz").unlink()
    assert run("-tr", "a").code == 0
    assert len(json.loads(run("-lr", "--json", "a").out)) == 2
    assert run("-dfr", "--rm", "a").code == 0
    assert not [name for name in names(tree) if name.endswith(".ncz")]


def test_a_folder_says_what_can_be_done_with_it(run, tree):
    result = run(*QUICK, "a")
    assert result.code == 2 and "-r " in result.err and "--tar " in result.err


def test_outputs_go_flat_into_a_folder(run, tree):
    assert run(*QUICK, "--output-dir-flat", "out/new", "a/one", "a/b/two").code == 0
    assert [name for name in names(tree) if "out" in name] == ["out/new/one.ncz", "out/new/two.ncz"]
    assert run("-d", "--output-dir-flat", "back", "out/new/one.ncz").code == 0
    assert (tree / "back/one").read_bytes() == (tree / "a/one").read_bytes()


def test_two_files_are_never_one_output(run, tree):
    result = run(*QUICK, "-f", "--rm", "--output-dir-flat", "out", "a/one", "other/one")
    assert result.code == 1 and "one output" in result.err
    assert (tree / "a/one").exists() and (tree / "other/one").exists()


def test_outputs_mirror_their_inputs_folders(run, tree):
    assert run(*QUICK, "-r", "--output-dir-mirror", "out", "a", tree / "other").code == 0
    outside = f"out{tree}/other/one.ncz"
    made = [name for name in names(tree) if name.startswith("out/")]
    assert made == sorted(["out/a/b/two.ncz", "out/a/one.ncz", outside])
    result = run(*QUICK, "--output-dir-mirror", "out", "a/../a/one")
    assert result.code == 2 and ".." in result.err


def test_places_for_outputs_exclude_each_other(run, plain):
    for places in (["-c", "-o", "x"], ["-o", "x", "--output-dir-flat", "y"],
                   ["--output-dir-flat", "y", "--output-dir-mirror", "z"]):  # fmt: skip
        result = run(*QUICK, *places, plain)
        assert result.code == 1 and "exclude each other" in result.err


def test_a_list_names_files(run, tree):
    (tree / "list").write_bytes(b"a/one\r\n\na/b/two\n")
    assert run(*QUICK, "--filelist", "list", "other/one").code == 0
    made = {"a/one.ncz", "a/b/two.ncz", "other/one.ncz"}
    assert made <= set(names(tree))
    (tree / "list").write_bytes(b"\n")
    assert run("-t", "--filelist", "list").code == 0  # nothing, and not standard input
    assert run("-t", "--filelist", "missing").code == 1


@pytest.mark.parametrize("suffix", ["", "a/b"])
def test_suffixes_that_are_none_are_an_error(run, plain, suffix):
    assert run(*QUICK, "-S", suffix, plain).code == 1


def test_a_suffix_can_be_chosen(run, plain, tmp_path):
    assert run(*QUICK, "-S", ".lm", plain).code == 0
    assert run(*QUICK, "-S", ".lm", "file.lm").code == 2
    assert run("-d", "file.lm").code == 2
    plain.unlink()
    assert run("-dS.lm", "file.lm").code == 0
    assert plain.read_bytes() == DATA


def test_the_short_name_of_a_tar_archive_stands_for_the_long_one(run, packed, tmp_path):
    packed.rename(tmp_path / "x.tncz")
    assert run("-d", "x.tncz").code == 0
    assert (tmp_path / "x.tar").read_bytes() == DATA


# What is said.


def test_results_are_told_in_json(run, plain, packed, tmp_path):
    entries = json.loads(run("c", "--json", plain, "missing").out)
    assert [entry["file"] for entry in entries] == [str(plain), "missing"]
    assert entries[0]["output"] == f"{plain}.ncz" and entries[0]["error"] is None
    assert entries[0]["raw_size"] == 9000 and entries[0]["seconds"] > 0
    assert entries[0]["compressed_size"] == (tmp_path / "file.ncz").stat().st_size
    assert "No such file" in entries[1]["error"]
    damaged = tmp_path / "damaged.ncz"
    damaged.write_bytes(packed.read_bytes()[:-1])
    result = run("-t", "--json", packed, damaged)
    good, bad = json.loads(result.out)
    assert result.code == 1 and good["raw_size"] == 9000 and good["error"] is None
    assert "ends before" in bad["error"]
    assert run("c", "--json", "-c", plain).code == 1
    with plain.open() as stdin:
        assert run("c", "--json", stdin=stdin).code == 1
    with packed.open() as stdin:
        (entry,) = json.loads(run("t", "--json", stdin=stdin).out)
    assert entry["compressed_size"] == packed.stat().st_size


def test_a_list_of_several_files_has_totals(run, packed, tmp_path):
    (tmp_path / "other.ncz").write_bytes(nczip.compress(b"x" * 1000, 1, primer=False))
    lines = run("l", packed, "other.ncz").out.decode().splitlines()
    total = next(line for line in lines if "total" in line)
    assert "10,000" in total
    assert f"{packed.stat().st_size + (tmp_path / 'other.ncz').stat().st_size:,}" in total
    assert b"total" not in run("l", packed).out


def foreign_files():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", DATA)
    return {
        "gzip": gzip.compress(DATA),
        "xz": lzma.compress(DATA),
        "bzip2": bz2.compress(DATA),
        "zstd": zstandard.compress(DATA),
        "zip": buffer.getvalue(),
        "7z": b"7z\xbc\xaf\x27\x1c\0\4" + bytes(30),
    }


@pytest.mark.parametrize(("kind", "data"), foreign_files().items())
def test_files_of_other_tools_are_told_by_name(run, tmp_path, kind, data):
    (tmp_path / "x.other").write_bytes(data)
    (tmp_path / "x.ncz").write_bytes(data)
    for words in (
        ["d", "x.other"],
        ["-d", "x.ncz"],
        ["-dc", "x.ncz"],
        ["-t", "x.ncz"],
        ["-l", "x.ncz"],
        ["d", "--range", "0:1", "x.ncz"],
        ["-d", "--untar", "x.ncz"],
    ):
        result = run(*words)
        assert result.code in (1, 2) and f"is {kind}, not nczip" in result.err
    with (tmp_path / "x.ncz").open() as stdin:
        assert f"is {kind}, not nczip" in run("-d", stdin=stdin).err
    assert names(tmp_path) == ["x.ncz", "x.other"]


def test_warnings_are_said_unless_quiet(run, plain, packed):
    assert "already has" in run(packed).err
    quiet = run("-q", packed)
    assert (quiet.code, quiet.err) == (2, "")
    assert run("-q", "missing").err != ""


def test_versions_of_all_that_decides(run):
    assert run("--version").out == run("-V").out == f"nczip, version {nczip.__version__}\n".encode()
    for words in (["--version", "-v"], ["-vV"]):
        text = run(*words).out.decode()
        for what in ("format", "primer", "exact", "nczip-9m-q8_0", "numba", "-9"):
            assert what in text


def test_help_shows_options_and_commands(run):
    for words in (["--help"], ["-h"], ["-d", "-h"]):
        text = run(*words).out.decode()
        assert "--decompress" in text and "--salvage" in text and "-1 ... -9" in text
        assert "models" in text
    assert "Compress files" in run("c", "--help").out.decode()


# Estimates.


def test_long_work_is_estimated_from_a_piece_of_the_file(run, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "SMALLEST", 40_000)
    (tmp_path / "long").write_bytes(english(40_000))
    result = run("-v", *QUICK, "-c", "long")
    first, last = result.err.strip().split("\n")
    assert "about" in first and "kB/s" in first and "->" in last
    predicted, measured = (float(line.split(" kB/s")[0].split()[-1]) for line in (first, last))
    assert measured / 5 < predicted < measured * 5  # of one machine at one time, but a busy one
    assert "about" not in run(*QUICK, "-c", "long").err


def test_short_work_is_not_estimated(run, plain):
    assert run("-v", *QUICK, "-c", plain).err.count("\n") == 1


def test_long_decoding_is_estimated_from_its_start(run, packed, monkeypatch):
    monkeypatch.setattr("nczip.progress._SECONDS_BETWEEN_LOOKS", 0.001)
    monkeypatch.setattr("nczip.progress._SECONDS_BEFORE_ESTIMATE", 0)
    monkeypatch.setattr("nczip.progress._SECONDS_WORTH_ESTIMATING", 0)
    packed.write_bytes(nczip.compress(english(60_000), 1, primer=False))
    first = run("-dcv", packed).err.split("\n")[0]
    assert "about" in first and "kB/s for the rest" in first


@pytest.mark.parametrize(
    ("seconds", "speed", "words"),
    [(39.7, 20_400, "about 40 s at 20 kB/s"), (3.21, 1_234_567, "about 3.2 s at 1200 kB/s"),
     (600, 999, "about 10 min at 1 kB/s"), (9000, 5_550, "about 2.5 h at 5.5 kB/s"),
     (0.04, 100, "about 0 s at 0.1 kB/s")],
)  # fmt: skip
def test_estimates_say_no_more_than_is_known(seconds, speed, words):
    assert estimate.in_words(seconds, speed).replace("5.6", "5.5").replace("0.0 s", "0 s") == words


# Other names.


def called(program, words, monkeypatch, capfdbinary):
    monkeypatch.setattr(sys, "argv", ["any", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        program()
    return left.value.code or 0, capfdbinary.readouterr().out


def test_other_names_stand_for_options(packed, tmp_path, monkeypatch, capfdbinary):
    monkeypatch.chdir(tmp_path)
    assert called(nczcat, [packed, packed], monkeypatch, capfdbinary) == (0, DATA * 2)
    assert called(unncz, ["-t", packed], monkeypatch, capfdbinary) == (0, b"")
    assert names(tmp_path) == ["packed.ncz"]
    assert called(unncz, ["--rm", packed], monkeypatch, capfdbinary) == (0, b"")
    assert names(tmp_path) == ["packed"]
    (tmp_path / "c").write_bytes(DATA)
    assert called(nczcat, ["-f", "c"], monkeypatch, capfdbinary) == (0, DATA)  # no command


def test_the_package_installs_all_names():
    import tomllib

    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    scripts = tomllib.loads(text)["project"]["scripts"]
    assert set(scripts) == {"nczip", "unncz", "nczcat", "nczgrep", "nczless"}
    for place in scripts.values():
        module, name = place.split(":")
        __import__(module)
        assert callable(getattr(sys.modules[module], name))


def test_all_levels_have_a_preset():
    assert list(LEVELS) == list(range(1, 10))


def test_tar_archives_of_pythons_are_readable(run, tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(__file__, "test.py")
    assert run(*QUICK, "--rm", "x.tar").code == 0
    assert run("-d", "--untar", "x.tar.ncz").code == 0
    assert (tmp_path / "test.py").read_bytes() == Path(__file__).read_bytes()
