"""Folders: --tar makes one archive of them, --untar unpacks it, all of it or nothing."""

import io
import os
import signal
import subprocess
import sys
import tarfile
import time

import pytest
from command import nczip_command  # noqa: F401
from tests_support import noise

import nczip
from nczip.tars import TarSource

QUICK = ("-1", "--no-primer")


@pytest.fixture
def run(nczip_command):  # noqa: F811
    return nczip_command


@pytest.fixture
def folder(tmp_path):
    top = tmp_path / "in" / "folder"
    (top / "empty").mkdir(parents=True)
    (top / "a").write_bytes(noise(3000))
    (top / "a").chmod(0o750)
    (top / "none").write_bytes(b"")
    (top / "b" / "c").mkdir(parents=True)
    (top / "b" / "c" / ("ü" * 90)).write_bytes(noise(513, 2))
    (top / "hard").hardlink_to(top / "a")
    (top / "soft").symlink_to("b/c")
    os.utime(top / "a", (10**9, 10**9))
    return top


def state(folder):
    """Names, kinds, contents and times of all in a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content = path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes()
        found[str(path.relative_to(folder))] = content, path.lstat().st_mode
    return found


def packed(tmp_path, *members):
    """An archive of TarInfos with contents, compressed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    path = tmp_path / "x.tar.ncz"
    path.write_bytes(nczip.compress(buffer.getvalue(), 1, primer=False, block_size=1 << 14))
    return path


def test_a_folder_makes_the_round_trip(run, folder, tmp_path):
    before = state(folder)
    assert run("c", "--tar", folder).code == 0
    archive = folder.with_name("folder.tar.ncz")
    folder.rename(tmp_path / "was")
    assert run("d", "--untar", archive).code == 0
    assert state(folder) == before
    assert (folder / "a").stat().st_mtime == 10**9
    assert (folder / "a").samefile(folder / "hard")


def test_other_tars_read_it_and_its_bytes_are_always_the_same(run, folder):
    first = run("--tar", *QUICK, "-c", folder).out
    assert run("--tar", *QUICK, "-c", f"{folder}/").out == first
    raw = nczip.decompress(first)
    assert len(raw) % tarfile.RECORDSIZE == 0
    listed = subprocess.run(["tar", "-tf", "-"], input=raw, capture_output=True, check=True)
    assert listed.stderr == b"" and listed.stdout.startswith(b"folder/\n")
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        assert len(archive.getnames()) == 1 + len(state(folder))


def test_the_size_is_known_beforehand_but_for_long_names(folder):
    (folder / "b" / "c" / ("ü" * 90)).unlink()
    source = TarSource(folder)
    size = source.size
    while source.read(1000):
        pass
    assert source.taken == size


def test_an_archive_is_never_made_in_itself(run, folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = state(folder)
    for source in (".", folder, "b/.."):
        result = run("--tar", "-o", "b/x.ncz", source, *QUICK)
        assert result.code == 1 and "in itself" in result.err
    assert run("c", "--tar", ".").code == 0
    assert state(folder) == before and folder.with_name("folder.tar.ncz").exists()


def test_a_file_that_shrinks_meanwhile_is_an_error_and_leaves_nothing(run, folder, monkeypatch):
    import nczip.tars

    walk = nczip.tars._archive_size

    def shrink(paths):
        size = walk(paths)
        monkeypatch.setattr(tarfile.TarFile, "gettarinfo", late)
        return size

    gettarinfo = tarfile.TarFile.gettarinfo

    def late(archive, path, name):
        info = gettarinfo(archive, path, name)
        if info.isreg():
            info.size += 1
        return info

    monkeypatch.setattr(nczip.tars, "_archive_size", shrink)
    result = run("c", "--tar", folder)
    assert result.code == 1 and "shorter" in result.err
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


def test_a_file_that_vanishes_meanwhile_is_named(run, folder, monkeypatch):
    import nczip.tars

    size = nczip.tars._archive_size

    def vanish(paths):
        (folder / "none").unlink()
        return size(paths)

    monkeypatch.setattr(nczip.tars, "_archive_size", vanish)
    result = run("c", "--tar", folder)
    assert result.code == 1 and "folder/none: No such file" in result.err


def test_long_work_on_a_folder_is_estimated(run, folder):
    (folder / "large").write_bytes(noise(500_000))
    result = run("-v", *QUICK, "-c", "--tar", folder)
    assert result.err.count("\n") == 2 and " at " in result.err.split("\n")[0]


def test_folders_are_not_removed(run, folder):
    assert run(*QUICK, "--tar", "--rm", folder).code == 1
    assert run(*QUICK, "--tar", "-r", folder).code == 1
    assert folder.exists()


def test_files_go_into_a_folder_that_is_named(run, folder, tmp_path):
    run("c", "--tar", folder)
    archive = folder.with_name("folder.tar.ncz")
    assert run("d", "--untar", "--output-dir-flat", "new/place", archive).code == 0
    assert state(tmp_path / "new/place/folder") == state(folder)
    with archive.open() as stdin:
        assert run("d", "--untar", stdin=stdin).code == 0
    assert state(tmp_path / "folder") == state(folder)
    assert run("d", "--untar", "-o", "x", archive).code == 1


def test_nothing_is_replaced_unless_forced(run, folder):
    before = state(folder)
    run("c", "--tar", folder)
    (folder / "a").write_bytes(b"precious")
    (folder / "other").write_bytes(b"stays")
    archive = folder.with_name("folder.tar.ncz")
    result = run("d", "--untar", "--rm", archive)
    assert result.code == 1 and "exists" in result.err and archive.exists()
    assert (folder / "a").read_bytes() == b"precious"
    assert run("d", "--untar", "-f", "--rm", archive).code == 0
    assert (folder / "other").read_bytes() == b"stays"
    (folder / "other").unlink()
    assert state(folder) == before and not archive.exists()
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


def test_of_a_damaged_archive_nothing_is_unpacked(run, folder, tmp_path):
    data = bytearray(run("--tar", *QUICK, "--block-size", "1k", "-c", folder).out)
    data[-200] ^= 1
    (tmp_path / "x.tar.ncz").write_bytes(data)
    before = sorted(tmp_path.iterdir())
    assert run("d", "--untar", "x.tar.ncz").code == 1
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_behind_an_archive_is_checked_too(run, folder, tmp_path):
    whole = run("--tar", *QUICK, "-c", folder).out
    (tmp_path / "x.tar.ncz").write_bytes(whole[:-1])
    assert run("d", "--untar", "x.tar.ncz").code == 1
    assert not (tmp_path / "folder").exists()


def hostile():
    outside, link, device = (
        tarfile.TarInfo("../outside"),
        tarfile.TarInfo("l"),
        tarfile.TarInfo("d"),
    )
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    device.type = tarfile.CHRTYPE
    return {"outside": outside, "link": link, "device": device}


@pytest.mark.parametrize("kind", hostile())
def test_hostile_members_are_refused_and_nothing_is_unpacked(run, tmp_path, kind):
    work = tmp_path / "work"
    work.mkdir()
    archive = packed(work, (tarfile.TarInfo("good"), b"1"), (hostile()[kind], b""))
    result = run("d", "--untar", archive)
    assert result.code == 1 and "refused" in result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["work"]
    assert [path.name for path in work.iterdir()] == ["x.tar.ncz"]


def test_set_id_bits_are_not_unpacked(run, tmp_path):
    info = tarfile.TarInfo("file")
    info.mode = 0o6777
    assert run("d", "--untar", packed(tmp_path, (info, b"1"))).code == 0
    assert (tmp_path / "file").stat().st_mode & 0o7022 == 0


def test_what_holds_no_archive_is_said(run, tmp_path):
    for content in (noise(2000), b"", b"short"):
        (tmp_path / "x.ncz").write_bytes(nczip.compress(content, 1, primer=False))
        result = run("d", "--untar", "x.ncz")
        assert (result.code, "no tar archive" in result.err) == (1, True), result.err
    assert [path.name for path in tmp_path.iterdir()] == ["x.ncz"]


def test_a_signal_leaves_nothing_of_what_is_being_unpacked(run, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    whole = packed(tmp_path, (tarfile.TarInfo("good"), noise(200_000))).read_bytes()
    command = [sys.executable, "-m", "nczip", "d", "--untar"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=work
    ) as process:
        process.stdin.write(whole[:-50])
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while not list(work.glob(".*/good")) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list(work.glob(".*.nczip.part/good"))
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert process.returncode == -signal.SIGTERM
    assert list(work.iterdir()) == []
