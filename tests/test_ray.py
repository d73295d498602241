"""Compression on a real Ray cluster of this machine: two worker processes, some of which die."""

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ray = pytest.importorskip("ray", reason="the ray extra is not installed")
fsspec = pytest.importorskip("fsspec", reason="the ray extra is not installed")

from command import nczip_command  # noqa: E402, F401
from tests_support import english, noise  # noqa: E402

import nczip  # noqa: E402
from nczip.archive import Archive  # noqa: E402
from nczip.errors import CorruptError, NczipError  # noqa: E402
from nczip.integrations import ray as nczip_ray  # noqa: E402
from nczip.integrations.ray_storage import (  # noqa: E402
    PARTS_SUFFIX,
    Parts,
    list_files,
    open_input,
    open_output,
    read_fully,
)

BLOCK = 8 << 10
FAST = {"preset": "fast", "primer": False, "block_size": BLOCK}
TWO = nczip_ray.Resources(workers=2)


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two CPUs."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def processes_of_workers():
    """Process ids of this process' cluster's actors."""
    parents, titles = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(status[1])
            titles[int(folder.name)] = (folder / "cmdline").read_bytes()
    return [
        process
        for process, title in titles.items()
        if title.startswith(b"ray::Worker")
        and parents.get(parents.get(process, 0), 0) == os.getpid()
    ]


class Killer:
    """A report that kills a worker once, when so many blocks are done."""

    def __init__(self, blocks):
        self.blocks, self.killed = blocks, None

    def __call__(self, counts):
        if counts.blocks >= self.blocks and self.killed is None:
            self.killed = processes_of_workers()[0]
            os.kill(self.killed, signal.SIGKILL)


class GiveUpError(Exception):
    pass


def give_up_after(blocks):
    def report(counts):
        if counts.blocks >= blocks:
            raise GiveUpError("given up")

    return report


def test_a_killed_worker_changes_nothing_of_what_comes_out(cluster, tmp_path):
    raw = english(20 * BLOCK) + noise(BLOCK) + b"the end"
    (tmp_path / "book.txt").write_bytes(raw)
    (tmp_path / "book.txt").chmod(0o640)
    source, packed, back = (str(tmp_path / name) for name in ("book.txt", "out.ncz", "back"))
    killer = Killer(4)
    summary = nczip_ray.compress(source, packed, resources=TWO, report=killer, **FAST)
    assert killer.killed is not None
    assert (summary.failed, summary.blocks, summary.kept_blocks) == ([], 22, 0)
    assert Path(packed).read_bytes() == nczip.compress(raw, **FAST)
    assert Path(packed).stat().st_mode & 0o777 == 0o640
    assert summary.written == Path(packed).stat().st_size

    killer = Killer(4)
    summary = nczip_ray.decompress(packed, back, resources=TWO, report=killer)
    assert killer.killed is not None
    assert (summary.failed, summary.blocks, summary.written) == ([], 22, len(raw))
    assert Path(back).read_bytes() == raw
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "book.txt", "out.ncz"]


def test_a_job_that_was_given_up_goes_on_where_it_was(cluster, tmp_path):
    raw = english(12 * BLOCK)
    source, packed = tmp_path / "book.txt", tmp_path / "book.ncz"
    source.write_bytes(raw)
    job = {"resources": TWO, **FAST}
    summary = nczip_ray.compress(str(source), str(packed), report=give_up_after(6), **job)
    assert [result.error for result in summary.failed] == ["given up"]
    assert not packed.exists()
    folder = tmp_path / f"book.ncz{PARTS_SUFFIX}"
    parts = sorted(path for path in folder.iterdir() if path.name != "manifest.json")
    assert len(parts) >= 6
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [file["size"] for file in manifest["files"]] == [len(raw)]
    # What is torn, and what was made of bytes that have changed, is made again.
    parts[0].write_bytes(parts[0].read_bytes()[:100])
    raw = raw[:BLOCK] + b"X" + raw[BLOCK + 1 :]
    source.write_bytes(raw)

    summary = nczip_ray.compress(str(source), str(packed), **job)
    assert summary.failed == []
    assert len(parts) - 2 <= summary.kept_blocks <= 10
    assert packed.read_bytes() == nczip.compress(raw, **FAST)
    assert not folder.exists()


def test_a_damaged_archive_fails_alone(cluster, tmp_path):
    good = nczip.compress(english(3 * BLOCK), **FAST) + nczip.compress(b"", **FAST)
    good += nczip.compress(english(2 * BLOCK + 5, 2), **FAST)
    bad = bytearray(good)
    place = Archive(open_bytes(tmp_path / "good.ncz", good)).places[2]
    bad[place.offset + place.frame_size - 3] ^= 1
    (tmp_path / "bad.ncz").write_bytes(bad)
    (tmp_path / "cut.ncz").write_bytes(good[:-5])
    (tmp_path / "notes.txt").write_bytes(b"not for this command")
    (tmp_path / "huge.ncz").write_bytes(nczip.compress(bytes(9 * BLOCK), **FAST))
    summary = nczip_ray.test(str(tmp_path), resources=TWO, max_output=6 * BLOCK)
    assert [(Path(r.source).name, r.error is None) for r in summary.files] == [
        ("bad.ncz", False),
        ("cut.ncz", False),
        ("good.ncz", True),
        ("huge.ncz", False),
    ]
    assert summary.passed_over == 1
    assert summary.files[2].written == 5 * BLOCK + 5


def open_bytes(path, data):
    path.write_bytes(data)
    return path.open("rb")


def test_a_folder_of_an_object_store_and_back(cluster, tmp_path, bucket):
    contents = {
        "a.txt": english(BLOCK // 2),
        "sub/b.log": english(3 * BLOCK, 2),
        "sub/deeper/empty": b"",
        "c.bin": noise(BLOCK),
        "done.ncz": b"not to be compressed again",
    }
    fs = fsspec.filesystem("s3")
    for name, raw in contents.items():
        fs.pipe_file(f"{bucket}/in/{name}", raw)
    fs.pipe_file(f"{bucket}/packed/a.txt.ncz", b"something that was there")
    source, packed = f"s3://{bucket}/in", f"s3://{bucket}/packed"
    summary = nczip_ray.compress(source, packed, resources=TWO, **FAST)
    assert (summary.failed, summary.passed_over) == ([], 1)
    assert summary.skipped == [f"{packed}/a.txt.ncz"]
    assert fs.cat_file(f"{bucket}/packed/a.txt.ncz") == b"something that was there"
    fs.invalidate_cache()
    assert sorted(fs.find(f"{bucket}/packed")) == sorted(
        f"{bucket}/packed/{name}.ncz" for name in contents if name != "done.ncz"
    )
    del contents["done.ncz"], contents["a.txt"]
    for name, raw in contents.items():
        assert fs.cat_file(f"{bucket}/packed/{name}.ncz") == nczip.compress(raw, **FAST)

    fs.rm(f"{bucket}/packed/a.txt.ncz")
    summary = nczip_ray.decompress(packed, str(tmp_path), resources=TWO)
    assert summary.failed == []
    for name, raw in contents.items():
        assert (tmp_path / name).read_bytes() == raw


@pytest.fixture
def bucket(monkeypatch):
    """The name of a bucket in an object store of this machine."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    servers = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    server = servers.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    name = f"shelf-{os.urandom(4).hex()}"
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(name)
    yield name
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    server.stop()


def test_an_object_that_fails_half_way_does_not_appear(bucket):
    fs = fsspec.filesystem("s3")
    url = f"s3://{bucket}/new.ncz"
    for pieces in ([b"a few"], [noise(6 << 20)]):  # within one part of an upload, and beyond
        with pytest.raises(GiveUpError), open_output(url, None, False) as sink:
            for piece in pieces:
                sink.write(piece)
            raise GiveUpError
        del sink
        gc.collect()
        fs.invalidate_cache()
        assert not fs.exists(url)
        assert fs.call_s3("list_multipart_uploads", Bucket=bucket).get("Uploads", []) == []
        with open_output(url, None, False) as sink:
            for piece in pieces:
                sink.write(piece)
        assert fs.cat_file(url) == b"".join(pieces)
        fs.rm(url)


def test_sources_of_the_web_are_read_as_streams(server, tmp_path):
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    raw = english(100_000)
    server.files["/log?x=*"] = raw
    server.ranges = False
    (file,) = list_files(f"{server.url}/log?x=*", f"{tmp_path}/", compressing=True).files
    assert Path(file.target).name == "log?x=*.ncz"
    with open_input(file.source) as source:
        assert read_fully(source, 70_000) + read_fully(source, 70_000) == raw


def test_patterns_take_what_they_name(tmp_path):
    for name in ("x/1.log", "x/2.log", "x/2.txt", "y/3.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = list_files(f"{tmp_path}/*/*.log", "out/", compressing=True).files
    assert [file.target for file in found] == [f"out/{n}.log.ncz" for n in ("x/1", "x/2", "y/3")]
    with pytest.raises(NczipError, match="no such file"):
        list_files(f"{tmp_path}/none", "out", compressing=True)
    with pytest.raises(NczipError, match="nowhere"):
        list_files("nowhere://none", "out", compressing=True)


def test_parts_of_another_job_are_removed(tmp_path):
    files = list_files(__file__, f"{tmp_path}/x.ncz", compressing=True)
    first = Parts(files.parts, {"options": {"lanes": 1}}, files.files, set())
    first.write("0", b"frame")
    same = Parts(files.parts, {"options": {"lanes": 1}}, files.files, {f"{tmp_path}/x.ncz"})
    assert (same.is_resumed, same.read("0"), same.foreign) == (True, b"frame", set())
    other = Parts(files.parts, {"options": {"lanes": 2}}, files.files, set())
    assert (other.is_resumed, other.read("0")) == (False, None)


def test_workers_of_another_kind_are_refused():
    worker = nczip_ray.Worker(nczip.__version__, FAST)
    head = worker.describe().head
    assert worker.encode(head, english(BLOCK), 0)
    with pytest.raises(nczip_ray.ClusterError, match="not that of the others"):
        worker.encode(head[:-1] + b"!", english(BLOCK), 0)
    with pytest.raises(nczip_ray.ClusterError, match="install the same"):
        nczip_ray.Worker("0.0", FAST).describe()
    frame = worker.encode(head, english(BLOCK), 1)
    decoder = nczip_ray.Worker(nczip.__version__, {})
    assert decoder.decode(head, frame, 1) == english(BLOCK)
    with pytest.raises(CorruptError):
        decoder.decode(head, frame, 2)


def test_a_local_input_is_read_whole(tmp_path):
    (tmp_path / "a").write_bytes(noise(100_000))
    with open_input(str(tmp_path / "a")) as file:
        assert read_fully(file, 70_000) + read_fully(file, 70_000) == noise(100_000)
    with pytest.raises(NczipError, match="No such file"), open_input(str(tmp_path / "b")):
        pass


def test_options_that_workers_refuse_leave_nothing(cluster, tmp_path, nczip_command):  # noqa: F811
    (tmp_path / "a").write_bytes(b"something")
    result = nczip_command("ray", "c", "a", "a.ncz", "--workers", "1", "--block-size", "10")
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith("nczip: the block size must be")
    result = nczip_command("ray", "c", "b", "b.ncz")
    assert (result.code, result.err) == (1, "nczip: b: there is no such file\n")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_exists_is_skipped_without_a_cluster(tmp_path):
    (tmp_path / "a").write_bytes(b"something")
    (tmp_path / "a.ncz").write_bytes(b"something else")
    source, target = str(tmp_path / "a"), str(tmp_path / "a.ncz")
    summary = nczip_ray.compress(source, target, resources=TWO, **FAST)
    assert (summary.skipped, summary.files, summary.workers) == ([target], [], 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.ncz"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_that_was_ended_is_taken_up_by_the_next(number, tmp_path):
    raw = english(60 * BLOCK)
    (tmp_path / "book.txt").write_bytes(raw)
    command = [sys.executable, "-m", "nczip", "ray", "c", "book.txt", "book.ncz", "--workers", "2"]
    command += ["--preset", "fast", "--no-primer", "--block-size", "8k", "--json"]
    folder = tmp_path / f"book.ncz{PARTS_SUFFIX}"
    first = subprocess.Popen(command, cwd=tmp_path)
    while len(list(folder.glob("*"))) < 8:
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(number)
    assert first.wait(60) == -number
    if number == signal.SIGTERM:
        assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name, "book.txt"]
    assert not (tmp_path / "book.ncz").exists()
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert json.loads(second.stdout)["kept_blocks"] >= 6
    assert (tmp_path / "book.ncz").read_bytes() == nczip.compress(raw, **FAST)
    third = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert third.returncode == 2
    assert b"exists" in third.stderr
    (tmp_path / "book.ncz").write_bytes(b"something else")
    subprocess.run([*command, "-f"], cwd=tmp_path, capture_output=True, check=True)
    assert (tmp_path / "book.ncz").read_bytes() == nczip.compress(raw, **FAST)
