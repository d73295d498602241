"""The cache of compiled kernels: what is damaged heals, what others can write is refused."""

import importlib.util
import os
import shutil
import subprocess
import sys
import warnings

import pytest
from tests_support import english

from nczip.coder import kernelcache
from nczip.coder.errors import CacheWarning
from nczip.coder.folders import private_folder

_SOURCE = """
from nczip.coder.jit import kernel

@kernel()
def triple(x):
    return x * 3
"""


@pytest.fixture
def triple(tmp_path, monkeypatch):
    """Loads a module with a kernel anew, as another process would; its cache is tmp_path/cache."""
    path = tmp_path / "kernels_of_a_test.py"
    path.write_text(_SOURCE)
    monkeypatch.setenv("NCZIP_KERNEL_CACHE", str(tmp_path / "cache"))

    def load():
        kernelcache._checked_folder.cache_clear()
        kernelcache._warn.cache_clear()
        spec = importlib.util.spec_from_file_location("kernels_of_a_test", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.triple

    yield load
    kernelcache._checked_folder.cache_clear()
    kernelcache._warn.cache_clear()


def _hits(kernel):
    return sum(kernel.stats.cache_hits.values())


def _entry():
    (entry,) = kernelcache.kernel_cache_folder().glob("*.kernel")
    return entry


def test_a_kernel_is_compiled_once_and_then_read(triple):
    first = triple()
    assert first(14) == 42 and _hits(first) == 0
    again = triple()
    assert again(14) == 42 and _hits(again) == 1
    assert kernelcache.kernel_cache_folder().stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "another's"])
def test_a_damaged_entry_is_compiled_again_and_replaced(triple, damage):
    assert triple()(14) == 42
    good = _entry().read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    if damage == "another's":
        _entry().chmod(0o666)
    else:
        _entry().write_bytes({"empty": b"", "cut": good[:-10], "flipped": flipped}[damage])
    healing = triple()
    assert healing(14) == 42 and _hits(healing) == 0
    healed = triple()
    assert healed(14) == 42 and _hits(healed) == 1


def test_an_entry_of_another_signature_under_the_same_name_is_not_taken(triple):
    assert triple()(14) == 42
    whole = _entry()
    content = whole.read_bytes()
    whole.unlink()
    assert triple()(0.5) == 1.5
    _entry().write_bytes(content)
    assert triple()(0.5) == 1.5


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722])
def test_a_folder_that_others_can_write_is_refused_once_and_for_all(triple, mode):
    assert triple()(14) == 42
    folder = kernelcache.kernel_cache_folder()
    folder.chmod(mode)
    kernel = triple()
    with pytest.warns(CacheWarning, match="others can write") as caught:
        assert kernel(14) == 42 and _hits(kernel) == 0
        assert kernel(0.5) == 1.5
    assert len(caught) == 1
    folder.chmod(0o700)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_a_folder_of_another_user_is_refused(triple):
    assert triple()(14) == 42
    os.chown(kernelcache.kernel_cache_folder(), 12345, 0)
    kernel = triple()
    with pytest.warns(CacheWarning, match="another user"):
        assert kernel(14) == 42 and _hits(kernel) == 0


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_an_entry_of_another_user_is_not_read(triple):
    assert triple()(14) == 42
    os.chown(_entry(), 12345, 0)
    kernel = triple()
    assert kernel(14) == 42 and _hits(kernel) == 0


def test_a_folder_that_others_can_replace_is_refused(tmp_path):
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(PermissionError, match="replace"):
        private_folder(open_to_all / "cache")
    open_to_all.chmod(0o1777)  # as /tmp: only owners rename
    assert private_folder(open_to_all / "cache").stat().st_mode & 0o777 == 0o700


def test_where_no_folder_can_be_made_kernels_work_and_leave_nothing_behind(triple, monkeypatch):
    monkeypatch.setenv("NCZIP_KERNEL_CACHE", "/dev/null/nowhere")
    kernel = triple()
    with pytest.warns(CacheWarning, match="NCZIP_KERNEL_CACHE") as caught:
        assert kernel(14) == 42
    assert len(caught) == 1


def test_where_no_entry_can_be_written_kernels_work(triple, monkeypatch):
    def full(path, entry):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kernelcache, "_write", full)
    kernel = triple()
    with pytest.warns(CacheWarning, match="No space left"):
        assert kernel(14) == 42


def test_a_sound_cache_warns_of_nothing(triple):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert triple()(14) == 42
        assert triple()(14) == 42


def test_the_command_line_survives_a_damaged_cache(tmp_path):
    """Empty entries stopped every run once: "interrupted", exit code 130."""
    source = tmp_path / "text"
    source.write_bytes(english(3000))
    folder = tmp_path / "cache" / kernelcache.kernel_cache_folder().name
    command = [sys.executable, "-m", "nczip", "c", "--preset", "fast", "--no-primer", "-f"]
    subprocess.run([*command, str(source)], check=True, timeout=300)
    expected = source.with_name("text.ncz").read_bytes()
    shutil.copytree(kernelcache.kernel_cache_folder(), folder)
    folder.parent.chmod(0o700)
    for damaged, content in (("_flush", b""), ("_shift_low", b"\0" * 1000)):
        (entry,) = folder.glob(f"rangecoder.{damaged}-*")
        entry.write_bytes(content)
    environment = os.environ | {"NCZIP_KERNEL_CACHE": str(tmp_path / "cache")}
    run = subprocess.run(
        [*command, str(source)], capture_output=True, timeout=300, check=False, env=environment
    )
    assert (run.returncode, run.stderr) == (0, b"")
    assert source.with_name("text.ncz").read_bytes() == expected
    assert all(path.stat().st_size > 1000 for path in folder.glob("rangecoder.*"))
