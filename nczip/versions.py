"""``nczip --version -v``: all that decides which files open here, and how fast."""

import importlib.metadata
import platform
from collections.abc import Iterator

import click

from nczip import __version__


def print_versions(in_full: bool) -> None:
    """The version on standard output, with ``in_full`` those of everything under it."""
    click.echo(f"nczip, version {__version__}")
    if in_full:
        for what, value in _facts():
            click.echo(f"{what + ':':10}{value}")


def _facts() -> Iterator[tuple[str, str]]:
    from nczip.assets.models import folders
    from nczip.assets.primer import identify
    from nczip.coder.kernelcache import kernel_cache_folder
    from nczip.formats.container import VERSION
    from nczip.presets import LEVELS, PRESETS
    from nczip.terminal import printable

    yield "format", f"{VERSION} (writes and reads)"
    yield "primer", f"{identify():08x}"
    yield "engines", ", ".join(_engines())
    paths = [path for folder in folders() for path in sorted(folder.glob("*.gguf"))]
    for path in paths:
        yield "model", f"{printable(path.stem)}, {path.stat().st_size / 1e6:.1f} MB"
    for preset in PRESETS:
        levels = [str(level) for level, name in LEVELS.items() if name == preset]
        yield "preset", f"{preset}" + (f" (-{', -'.join(levels)})" if levels else "")
    libraries = (f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "numba"))
    yield "Python", ", ".join([platform.python_version(), *libraries])
    yield "machine", f"{platform.machine()}, {platform.system()}"
    yield "kernels", str(kernel_cache_folder())


def _engines() -> Iterator[str]:
    yield "exact"
    try:
        yield f"llama (llama-cpp-python {importlib.metadata.version('llama-cpp-python')})"
    except importlib.metadata.PackageNotFoundError:
        yield "llama is not installed (extra [llama])"
