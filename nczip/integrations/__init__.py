"""nczip where other libraries expect compressors: import ``nczip.integrations.HOST`` to register.

``numcodecs`` and ``zarr`` find their codecs by themselves, by entry points. What writes takes the
preset ``fast`` unless the host hands on another.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:  # nczip --help looks at the commands of ray, and is quick
    from nczip.file import NczipFile

#: Each with the package that it stands on; tarfile and shutil are Python's own.
HOSTS = {
    "tarfile": "tarfile",
    "fsspec": "fsspec",
    "joblib": "joblib",
    "smart_open": "smart_open",
    "datasets": "datasets",
}


def open_over(file: BinaryIO, mode: str = "rb", **options: Any) -> "NczipFile":
    """A compressed file over one of a host's; options as for :class:`nczip.NczipFile`."""
    from nczip.file import NczipFile

    if not mode.startswith("r"):
        options.setdefault("preset", "fast")
    return NczipFile(file, mode, **options)


def register() -> list[str]:
    """Register nczip with every host that is installed; returns their names.

    This imports the hosts, which may take seconds; import the module of one to register with it.
    """
    found = [host for host, package in HOSTS.items() if importlib.util.find_spec(package)]
    for host in found:
        importlib.import_module(f"{__name__}.{host}")
    return found
