"""``nczip warm``: what a first run makes is made ahead."""

from click.testing import CliRunner

from nczip.assets.primer import table_path
from nczip.coder.kernelcache import kernel_cache_folder
from nczip.warm import warm
from nczip.warm_cli import warm_command


def test_what_is_there_is_not_made_again():
    warm("swift")
    again = warm("swift")
    assert (again.kernels, again.table) == (0, False)


def test_it_says_where_things_are():
    result = CliRunner().invoke(warm_command, ["--preset", "swift"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "swift: " in result.output and str(kernel_cache_folder()) in result.output
    assert table_path().exists()


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path, monkeypatch):
    blocked = tmp_path / "a file"
    blocked.write_bytes(b"")
    monkeypatch.setenv("NCZIP_KERNEL_CACHE", str(blocked / "cache"))
    result = CliRunner().invoke(warm_command, ["--preset", "swift"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "0 kernels in" in result.output
