"""The command line's habits, those of gzip where nczip has the same option.

gzip(1) and its scripts set what users and their scripts expect of -c, -f, -k, -t and -l, of
suffixes, links, modes and exit codes. Where nczip differs, the test says so: it keeps the input
unless -R is given, and t and l are commands.
"""

import contextlib
import io
import json
import os
import stat
import threading
from pathlib import Path

import pytest
from command import nczip_command  # noqa: F401
from tests_support import noise

import nczip
from nczip.archive import find_members
from nczip.sinks import PART_SUFFIX, part_name

DATA = noise(9000)

needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root"
)


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
    path.write_bytes(nczip.compress(DATA, "fast", primer=False, block_size=1024))
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Which files there are afterwards.


def test_compressing_makes_a_file_with_the_suffix_and_keeps_the_input(run, plain, tmp_path):
    assert run("c", plain).code == 0
    assert names(tmp_path) == ["file", "file.ncz"]


def test_decompressing_takes_the_suffix_away(run, packed, tmp_path):
    assert run("d", packed).code == 0
    assert (tmp_path / "packed").read_bytes() == DATA
    assert packed.exists()


def test_remove_removes_the_input_and_keep_keeps_it(run, plain, tmp_path):
    assert run("c", "-R", plain).code == 0
    assert names(tmp_path) == ["file.ncz"]
    assert run("d", "-k", "file.ncz").code == 0
    assert names(tmp_path) == ["file", "file.ncz"]
    assert run("d", "-R", "-f", "file.ncz").code == 0
    assert names(tmp_path) == ["file"]
    assert plain.read_bytes() == DATA


def test_standard_output_leaves_files_alone(run, plain, packed, tmp_path):
    before = names(tmp_path)
    assert nczip.decompress(run("c", "-c", plain).out) == DATA
    assert run("d", "-c", packed).out == DATA
    assert names(tmp_path) == before


def test_the_output_may_be_named(run, plain, tmp_path):
    assert run("c", "-o", "other", plain).code == 0
    assert run("d", "-o", "again", "other").code == 0
    assert (tmp_path / "again").read_bytes() == DATA


def test_a_dash_is_a_pipe(run, plain):
    with plain.open() as stdin:
        compressed = run("c", "-", stdin=stdin).out
    assert nczip.decompress(compressed) == DATA


def test_without_files_pipes_are_used(run, packed):
    with packed.open() as stdin:
        assert run("d", stdin=stdin).out == DATA


def test_several_files_are_done_one_by_one(run, tmp_path):
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode() * 50)
    assert run("c", "-R", "a", "b", "c").code == 0
    assert names(tmp_path) == ["a.ncz", "b.ncz", "c.ncz"]
    assert run("d", "-c", "a.ncz", "b.ncz", "c.ncz").out == b"a" * 50 + b"b" * 50 + b"c" * 50


def test_an_empty_file_makes_the_round_trip(run, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert run("c", "-R", "empty").code == 0
    assert run("d", "empty.ncz").code == 0
    assert (tmp_path / "empty").read_bytes() == b""


def test_concatenated_files_are_one_file(run, tmp_path):
    (tmp_path / "a").write_bytes(b"first ")
    (tmp_path / "b").write_bytes(b"second")
    run("c", "a", "b")
    both = (tmp_path / "a.ncz").read_bytes() + (tmp_path / "b.ncz").read_bytes()
    (tmp_path / "both.ncz").write_bytes(both)
    assert run("d", "-c", "both.ncz").out == b"first second"
    assert run("t", "both.ncz").code == 0
    (entry,) = json.loads(run("l", "--json", "both.ncz").out)
    assert (entry["members"], entry["raw_size"]) == (2, 12)


# Exit codes: 0, 1 for an error, 2 for a warning; and one line for each.


def test_a_missing_file_is_an_error(run):
    result = run("c", "missing")
    assert result.code == 1 and result.err.count("\n") == 1


def test_a_damaged_file_is_an_error_and_leaves_no_output(run, packed, tmp_path):
    damaged = bytearray(packed.read_bytes())
    damaged[5000] ^= 1
    packed.write_bytes(damaged)
    for command in (["d"], ["t"], ["d", "-R"]):
        assert run(*command, packed).code == 1
    assert names(tmp_path) == ["packed.ncz"]


def test_a_cut_file_is_an_error(run, packed):
    packed.write_bytes(packed.read_bytes()[:-1])
    assert run("t", packed).code == 1
    assert run("l", packed).code == 1


def test_something_behind_a_member_is_an_error(run, packed):
    packed.write_bytes(packed.read_bytes() + b"trailing bytes")
    assert run("t", packed).code == 1


def test_an_existing_output_is_a_warning_and_stays(run, plain, tmp_path):
    (tmp_path / "file.ncz").write_bytes(b"precious")
    result = run("c", plain)
    assert result.code == 2 and "exists" in result.err
    assert (tmp_path / "file.ncz").read_bytes() == b"precious"
    assert run("c", "-f", plain).code == 0
    assert run("t", "file.ncz").code == 0


def test_an_unknown_suffix_is_a_warning(run, plain):
    assert run("d", plain).code == 2
    assert run("d", "-f", plain).code == 2


def test_a_suffix_that_is_there_is_a_warning(run, packed, tmp_path):
    assert run("c", packed).code == 2
    assert run("c", "-f", packed).code == 0
    assert (tmp_path / "packed.ncz.ncz").exists()


def test_a_bare_suffix_is_no_name(run, packed, tmp_path):
    packed.rename(tmp_path / ".ncz")
    assert run("d", ".ncz").code == 2


def test_a_folder_is_a_warning(run, tmp_path):
    (tmp_path / "folder").mkdir()
    assert run("c", "folder").code == 2
    assert run("c", "-f", "folder").code == 2
    assert run("l", "folder").code == 2


def test_an_error_outweighs_a_warning_and_the_rest_is_done(run, plain, packed, tmp_path):
    assert run("d", plain, "missing.ncz", packed).code == 1
    assert (tmp_path / "packed").read_bytes() == DATA


def test_wrong_usage_is_an_error(run, plain):
    for words in (["c", "--nothing"], ["x"], ["c", "-o", "a", "-c", plain], ["d", "--range", "5"]):
        result = run(*words)
        assert result.code == 1 and result.err.startswith("nczip: ")


@pytest.mark.parametrize("size", ["²", "٣", "1_0", " 5", "-5", "1e3", "0x10", "", "9" * 400])
def test_odd_sizes_are_an_error(run, plain, size):
    assert run("c", "-c", f"--memory={size}", plain).code == 1


# Links, devices and pipes.


def test_a_symbolic_link_is_followed_only_when_forced(run, plain, tmp_path):
    (tmp_path / "link").symlink_to("file")
    assert run("c", "link").code == 2
    assert not (tmp_path / "link.ncz").exists()
    assert nczip.decompress(run("c", "-c", "link").out) == DATA
    assert run("c", "-f", "link").code == 0
    assert (tmp_path / "link.ncz").exists()


def test_t_and_l_follow_links(run, packed, tmp_path):
    (tmp_path / "link.ncz").symlink_to("packed.ncz")
    assert run("l", "link.ncz").code == 0
    assert run("t", "link.ncz").code == 0


def test_a_symbolic_link_in_the_outputs_place_is_replaced_not_followed(run, plain, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    (tmp_path / "file.ncz").symlink_to("other")
    assert run("c", plain).code == 2
    assert run("c", "-f", plain).code == 0
    assert other.read_bytes() == b"precious" and not (tmp_path / "file.ncz").is_symlink()


def test_a_link_to_nowhere_in_the_outputs_place_needs_force(run, plain, tmp_path):
    (tmp_path / "file.ncz").symlink_to("nowhere")
    assert run("c", plain).code == 1
    assert run("c", "-f", plain).code == 0
    assert not (tmp_path / "nowhere").exists()


def test_a_file_with_other_links_is_not_removed(run, plain, tmp_path):
    (tmp_path / "hard").hardlink_to(plain)
    assert run("c", "-R", plain).code == 2
    assert names(tmp_path) == ["file", "hard"]
    assert run("c", plain).code == 0
    assert run("c", "-R", "-f", plain).code == 0
    assert names(tmp_path) == ["file.ncz", "hard"]


def test_a_fifo_is_refused_at_once(run, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert run("c", "fifo").code == 2
    assert run("d", "-o", "x", "fifo").code == 2
    assert run("l", "fifo").code == 2


def test_a_forced_fifo_is_read_to_its_end(run, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(DATA,))
    writer.start()
    assert run("c", "-f", "-o", "out", "fifo").code == 0
    writer.join()
    assert nczip.decompress((tmp_path / "out").read_bytes()) == DATA
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_a_device_is_not_written_to_unless_forced(run, plain):
    assert run("c", "-o", "/dev/null", plain).code == 1
    assert run("c", "-f", "-o", "/dev/null", plain).code == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_full_device_is_an_error(run, plain):
    result = run("c", "-f", "-o", "/dev/full", plain)
    assert result.code == 1 and "/dev/full" in result.err


# Modes, owners, times.


def test_mode_and_time_are_carried_over(run, plain, tmp_path):
    plain.chmod(0o640)
    os.utime(plain, ns=(10**18, 10**18 + 123_456_789))
    run("c", plain)
    run("d", "-f", "file.ncz")
    for name in ("file", "file.ncz"):
        status = (tmp_path / name).stat()
        assert stat.S_IMODE(status.st_mode) == 0o640
        assert status.st_mtime_ns == 10**18 + 123_456_789


def test_standard_input_gives_the_mode_of_a_new_file(run, plain, tmp_path):
    plain.chmod(0o600)
    with plain.open() as stdin:
        assert run("c", "-o", "out", stdin=stdin).code == 0
    (tmp_path / "new").write_bytes(b"")
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "new").stat().st_mode


@needs_root
def test_root_keeps_owner_and_group(run, plain, tmp_path):
    os.chown(plain, 12345, 23456)
    plain.chmod(0o6755)
    assert run("c", plain).code == 0
    status = (tmp_path / "file.ncz").stat()
    assert (status.st_uid, status.st_gid) == (12345, 23456)


@needs_root
@pytest.mark.parametrize(("owner", "group"), [(12345, 0), (12345, 23456), (0, 23456)])
def test_no_set_id_bit_gives_a_strangers_file_the_rights_of_root(
    run, packed, tmp_path, monkeypatch, owner, group
):
    os.chown(packed, owner, group)
    packed.chmod(0o6755)

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    assert run("d", packed).code == 0
    status = (tmp_path / "packed").stat()
    assert status.st_uid == os.geteuid() and not status.st_mode & 0o6000


def test_where_the_group_cannot_be_kept_nobody_gets_more_rights(run, plain, tmp_path, monkeypatch):
    plain.chmod(0o674)
    monkeypatch.setattr("nczip.sinks._give", lambda handle, owner, group: group == -1)
    run("c", plain)
    assert stat.S_IMODE((tmp_path / "file.ncz").stat().st_mode) == 0o644


def test_a_part_file_is_readable_by_its_owner_alone(run, plain, tmp_path, monkeypatch):
    seen = []
    publish = "nczip.sinks.PartFile.publish"
    monkeypatch.setattr(publish, lambda part, *_: seen.append(part.path.stat().st_mode))
    run("c", plain)
    assert [stat.S_IMODE(mode) for mode in seen] == [0o600]


# The same file twice.


@pytest.mark.parametrize("other", ["file", "./file", "hard", "soft"])
def test_the_input_is_never_the_output(run, plain, tmp_path, other):
    (tmp_path / "hard").hardlink_to(plain)
    (tmp_path / "soft").symlink_to("file")
    for words in (["c", "-R", "-f"], ["c", "-f"], ["d", "-R", "-f"]):
        result = run(*words, "-o", other, plain)
        assert result.code == 1 and "is the input" in result.err
        assert plain.read_bytes() == DATA


def test_standard_input_is_never_the_output(run, plain):
    with plain.open() as stdin:
        assert run("c", "-f", "-o", plain, stdin=stdin).code == 1
    assert plain.read_bytes() == DATA


def test_a_file_that_appears_meanwhile_is_not_replaced(run, plain, tmp_path, monkeypatch):
    from nczip import jobs

    class Intruder(jobs.Compressor):
        def flush(self):
            (tmp_path / "file.ncz").write_bytes(b"precious")
            return super().flush()

    monkeypatch.setattr(jobs, "Compressor", Intruder)
    result = run("c", "-R", plain)
    assert result.code == 1 and "exists" in result.err
    assert (tmp_path / "file.ncz").read_bytes() == b"precious"
    assert names(tmp_path) == ["file", "file.ncz"]


@pytest.mark.parametrize("missing", ["renameat2", "renameat2 and links"])
def test_without_the_systems_rename_nothing_is_replaced_either(
    run, plain, tmp_path, monkeypatch, missing
):
    monkeypatch.setattr("nczip.sinks._renameat2", lambda *_: False)
    if missing != "renameat2":

        def refuse(*_):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    assert run("c", plain).code == 0
    assert run("t", "file.ncz").code == 0
    (tmp_path / "file.ncz").write_bytes(b"precious")
    from nczip.sinks import rename_without_replacing

    with pytest.raises(FileExistsError):
        rename_without_replacing(plain, tmp_path / "file.ncz")
    assert names(tmp_path) == ["file", "file.ncz"]


def test_an_input_that_changes_while_it_is_read_is_kept(run, plain, tmp_path, monkeypatch):
    from nczip import jobs

    class Writer(jobs.Compressor):
        def flush(self):
            with plain.open("ab") as file:
                file.write(b"a log goes on")
            return super().flush()

    monkeypatch.setattr(jobs, "Compressor", Writer)
    assert run("c", "-R", plain).code == 2
    assert plain.read_bytes() == DATA + b"a log goes on"


# Names.


@pytest.mark.parametrize("size", [200, 236, 237, 243, 244, 250, 251])
def test_long_names_are_names_like_others(run, tmp_path, size):
    name = "n" * size
    (tmp_path / name).write_bytes(DATA)
    assert run("c", "-R", name).code == 0
    assert names(tmp_path) == [f"{name}.ncz"]
    assert run("d", f"{name}.ncz").code == 0


def test_a_name_that_becomes_too_long_is_an_error(run, tmp_path):
    (tmp_path / ("n" * 252)).write_bytes(DATA)
    result = run("c", "-R", "n" * 252)
    assert result.code == 1 and "too long" in result.err
    assert len(names(tmp_path)) == 1


def test_long_names_that_start_alike_have_part_files_of_their_own(tmp_path):
    one, two = (tmp_path / ("ü" * 120 + end) for end in "ab")
    assert part_name(one) != part_name(two)
    assert max(len(os.fsencode(part_name(path))) for path in (one, two)) <= 255


def test_an_output_in_a_folder_that_is_not_there_is_named(run, plain):
    result = run("c", "-o", "nodir/x", plain)
    assert result.code == 1 and "nodir/x" in result.err and "No such file" in result.err


HOSTILE = ["[red]a[/red]", "a[/b]", "\x1b[2J\x1b]0;title\x07", "\u202egnp.exe", "line\nbreak"]


@pytest.mark.parametrize("name", [*HOSTILE, os.fsdecode(b"caf\xe9")])
def test_names_reach_the_terminal_as_text(run, tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(DATA)
    made = run("c", "-v", name)
    assert made.code == 0
    listed = run("l", f"{name}.ncz")
    failed = run("d", f"{name}.ncz")
    assert listed.code == 0 and failed.code == 2
    for text in (made.err, listed.out.decode(), failed.err):
        assert all(character.isprintable() or character == "\n" for character in text)
        assert name.strip("\n\x1b\u202e\udce9")[:3] in text
    assert json.loads(run("l", "--json", f"{name}.ncz").out)[0]["file"] == f"{name}.ncz"


# t and l.


def test_t_says_nothing_of_a_sound_file(run, packed, tmp_path):
    result = run("t", packed)
    assert (result.code, result.out, result.err) == (0, b"", "")
    assert names(tmp_path) == ["packed.ncz"]
    assert run("t", "-v", packed).err.endswith("OK\n")


def test_l_reads_little_of_a_file(run, packed, monkeypatch):
    from nczip.sources import Source

    read, sizes = Source.read, []

    def counted(source, size=-1, /):
        data = read(source, size)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(Source, "read", counted)
    assert run("l", packed).code == 0
    assert sum(sizes) < 1500 < packed.stat().st_size


def test_l_goes_on_after_an_error(run, plain, packed):
    result = run("l", "--json", plain, packed)
    assert result.code == 1 and "not an nczip stream" in result.err
    assert [Path(entry["file"]).name for entry in json.loads(result.out)] == ["packed.ncz"]


def test_a_skippable_frame_at_the_end_does_not_hide_the_index(run, packed):
    packed.write_bytes(packed.read_bytes() + b"\x8eNCS" + bytes([3, 0, 0, 0]) + b"abc")
    (entry,) = json.loads(run("l", "--json", packed).out)
    assert entry["raw_size"] == len(DATA)


# Part files.


def test_a_part_file_of_a_dead_process_is_removed_by_the_next_run(run, plain, tmp_path):
    stale = tmp_path / part_name(tmp_path / "file.ncz")
    stale.write_bytes(b"left behind")
    assert run("c", plain).code == 0
    assert names(tmp_path) == ["file", "file.ncz"]


def test_a_part_file_of_a_living_process_is_left_alone(run, plain, tmp_path):
    import fcntl

    part = tmp_path / part_name(tmp_path / "file.ncz")
    with part.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        result = run("c", plain)
    assert result.code == 1 and "another nczip" in result.err
    assert names(tmp_path) == [part.name, "file"]


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_something_else_in_the_part_files_place_is_left_alone(run, plain, tmp_path, kind):
    part = tmp_path / part_name(tmp_path / "file.ncz")
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    if kind == "link":
        part.symlink_to(precious)
    else:
        part.mkdir()
    assert run("c", plain).code == 0
    assert run("t", "file.ncz").code == 0
    assert precious.read_bytes() == b"precious"
    assert names(tmp_path) == [part.name, "file", "file.ncz", "precious"]


@needs_root
def test_a_strangers_file_in_the_part_files_place_is_left_alone(run, plain, tmp_path):
    part = tmp_path / part_name(tmp_path / "file.ncz")
    part.write_bytes(b"a stranger's")
    os.chown(part, 12345, -1)
    assert run("c", plain).code == 0
    assert part.read_bytes() == b"a stranger's"


# What only nczip has.


@pytest.mark.parametrize(
    ("words", "start", "stop"),
    [("0:10", 0, 10), ("1000:1100", 1000, 1100), ("1k:2k", 1024, 2048), (":5", 0, 5),
     ("8990:", 8990, 9000), ("1023:1025", 1023, 1025), ("9000:", 0, 0), ("5:5", 0, 0),
     ("8999:1g", 8999, 9000), (":", 0, 9000)],
)  # fmt: skip
def test_a_range_is_written_to_standard_output(run, packed, words, start, stop):
    assert run("d", "--range", words, packed).out == DATA[start:stop]
    with packed.open() as stdin:
        assert run("d", "--range", words, stdin=stdin).out == DATA[start:stop]


def test_a_range_decodes_only_the_blocks_it_needs(run, packed):
    damaged = bytearray(packed.read_bytes())
    damaged[5000] ^= 1  # the fifth block of nine
    packed.write_bytes(damaged)
    assert run("d", "--range", "0:4000", packed).out == DATA[:4000]
    assert run("d", "--range", "6000:9000", packed).out == DATA[6000:]
    assert run("d", "--range", "4000:6000", packed).code == 1


def test_no_way_of_reading_gives_more_than_may_come_out(run, packed):
    for words in (["d", "-c"], ["t"], ["d", "--range", "0:10"], ["d", "-c", "--salvage"]):
        result = run(*words, "--max-output", "8999", packed)
        assert result.code == 1 and "--max-output" in result.err
        assert run(*words, "--max-output", "9000", packed).code == 0
    with packed.open() as stdin:
        assert run("d", "--range", "0:10", "--max-output", "8999", stdin=stdin).code == 1


def test_a_range_never_takes_the_whole_files_name(run, packed, tmp_path):
    assert run("d", "--range", "0:4", packed).code == 0
    assert names(tmp_path) == ["packed.ncz"]
    assert run("d", "-R", "--range", "0:4", packed).code == 1


def test_a_range_of_a_pipe_is_read_through(run, packed, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    writer = threading.Thread(target=(tmp_path / "fifo").write_bytes, args=(packed.read_bytes(),))
    writer.start()
    with (tmp_path / "fifo").open() as stdin:
        assert run("d", "--range", "3000:3003", stdin=stdin).out == DATA[3000:3003]
    writer.join()


def test_verifying_decodes_before_the_file_gets_its_name(run, plain, tmp_path, monkeypatch):
    from nczip import jobs

    class Liar(jobs.Compressor):
        """Makes an archive, valid in itself, of other bytes."""

        def flush(self):
            other = nczip.Compressor("fast", primer=False)
            return other.compress(b"other bytes") + other.flush()

    monkeypatch.setattr(jobs, "Compressor", Liar)
    for words in (["--verify"], ["-R"]):
        result = run("c", *words, plain)
        assert result.code == 1 and "does not decode" in result.err
        assert names(tmp_path) == ["file"]
    assert run("c", "-R", "--no-verify", plain).code == 0


def test_verifying_sees_what_the_file_system_has(run, plain, tmp_path, monkeypatch):
    from nczip.sinks import PartFile

    read_at = PartFile.read_at
    monkeypatch.setattr(PartFile, "read_at", lambda *a: read_at(*a).replace(DATA[:9], b"123456789"))
    result = run("c", "-R", plain)
    assert result.code == 1 and "damaged" in result.err
    assert names(tmp_path) == ["file"]


def test_standard_output_keeps_the_input_whatever_is_asked_for(run, plain):
    assert nczip.decompress(run("c", "-R", "-c", plain).out) == DATA
    with plain.open() as stdin:
        assert nczip.decompress(run("c", "-R", stdin=stdin).out) == DATA
    assert plain.read_bytes() == DATA


def test_verifying_and_resuming_need_a_file(run, plain):
    for word in ("--verify", "--resume"):
        assert run("c", "-c", word, plain).code == 1


@contextlib.contextmanager
def _interrupted_after(blocks, tmp_path, name):
    """The part file of a run that was killed behind so many blocks of 1024 bytes, and a bit."""
    whole = nczip.compress(DATA, "fast", primer=False, block_size=1024)
    (member,) = find_members(io.BytesIO(whole))
    size = member.header_size + sum(frame for _, frame in member.index.blocks[:blocks])
    part = tmp_path / part_name(tmp_path / name)
    part.write_bytes(whole[: size + 300])
    yield part


@pytest.mark.parametrize("blocks", [0, 1, 5, 8, 9])
def test_an_interrupted_run_is_resumed_at_its_last_whole_block(
    run, plain, tmp_path, monkeypatch, blocks
):
    from nczip import jobs

    fed = []

    class Counted(jobs.Compressor):
        def compress(self, data):
            fed.append(len(data))
            return super().compress(data)

    monkeypatch.setattr(jobs, "Compressor", Counted)
    with _interrupted_after(blocks, tmp_path, "file.ncz"):
        assert run("c", "--resume", "-R", plain).code == 0
    assert sum(fed) == len(DATA) - min(1024 * blocks, 9000)
    assert names(tmp_path) == ["file.ncz"]
    assert run("d", "-c", "file.ncz").out == DATA
    assert run("l", "file.ncz").code == 0


def test_a_run_that_only_lacks_its_name_gets_it(run, plain, tmp_path):
    part = tmp_path / part_name(tmp_path / "file.ncz")
    part.write_bytes(nczip.compress(DATA, "fast", primer=False, block_size=1024))
    whole = part.read_bytes()
    assert run("c", "--resume", plain).code == 0
    assert (tmp_path / "file.ncz").read_bytes() == whole


def test_resuming_notices_that_the_input_has_changed(run, plain, tmp_path):
    with _interrupted_after(5, tmp_path, "file.ncz"):
        changed = DATA[:2000] + b"!" + DATA[2001:]
        plain.write_bytes(changed)
        assert run("c", "--resume", "--verify", plain).code == 0
    assert run("d", "-c", "file.ncz").out == changed


def test_resuming_twice_and_from_a_pipe(run, plain, tmp_path):
    with _interrupted_after(3, tmp_path, "out") as part:
        first = part.read_bytes()
        with plain.open() as stdin:
            assert run("c", "--resume", "-o", "out", "--block-size", "1k", stdin=stdin).code == 0
    whole = (tmp_path / "out").read_bytes()
    part.write_bytes(whole[: len(first) + 3000])
    (tmp_path / "out").unlink()
    with plain.open() as stdin:
        assert run("c", "--resume", "-o", "out", stdin=stdin).code == 0
    assert run("d", "-c", "out").out == DATA


def test_resuming_garbage_starts_again(run, plain, tmp_path):
    (tmp_path / part_name(tmp_path / "file.ncz")).write_bytes(noise(5000, 3))
    assert run("c", "--resume", plain).code == 0
    assert run("d", "-c", "file.ncz").out == DATA


def test_a_failing_run_with_resume_leaves_its_part_file(run, plain, tmp_path, monkeypatch):
    from nczip import jobs

    class Full(jobs.Compressor):
        def flush(self):
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "Compressor", Full)
        assert run("c", "--resume", "--block-size", "1k", plain).code == 1
    assert [name.endswith(PART_SUFFIX) for name in names(tmp_path)] == [True, False]
    assert run("c", "--resume", plain).code == 0
    assert run("d", "-c", "file.ncz").out == DATA
