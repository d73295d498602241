"""Files of corpora, from wherever the manifest says: verified, and put in their place in one step.

What an archive claims about itself is never believed: only the members that the manifest names are
read, each up to its known size, and written under the manifest's name.
"""

from pathlib import Path

import filelock

from nczip.corpora.manifest import CorpusFile, Manifest, load_manifest
from nczip.corpora.store import CorpusError, cache_folder, find, is_intact
from nczip.downloads import Report, copy_exactly, download, open_member, silent
from nczip.errors import DownloadError


def fetch(
    file: CorpusFile,
    *,
    manifest: Manifest | None = None,
    folder: Path | None = None,
    report: Report = silent,
) -> Path:
    """The path of a file, which is downloaded where it is not here yet.

    Args:
        file: what to get.
        manifest: where archives and parents are looked up; None for the one that ships.
        folder: where to put it; None for the cache folder. Searched first.
        report: told of progress.

    Raises:
        CorpusError: it has no source, the source fails, or what comes is not the file.
    """
    manifest = manifest or load_manifest()
    present = find(file, folder)
    if present is not None and is_intact(file, present):
        return present
    target = (folder or cache_folder()) / file.corpus / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(target.with_name(f".{file.name}.lock")):
        if not (target.is_file() and is_intact(file, target)):
            try:
                _make(file, target, manifest, folder, report)
            except DownloadError as error:
                raise CorpusError(str(error)) from error
    return target


def _make(
    file: CorpusFile, target: Path, manifest: Manifest, folder: Path | None, report: Report
) -> None:
    part = target.with_name(f".{file.name}.part")
    if file.head_of:
        parent = manifest.file(file.head_of)
        if parent is None:
            raise CorpusError(f"the manifest knows no {file.head_of}, whose head {file.path} is")
        with fetch(parent, manifest=manifest, folder=folder, report=report).open("rb") as source:
            copy_exactly(source, part, file.size, file.sha256, name=file.path, whole=False)
    elif file.archive:
        archive = manifest.archives[file.archive]
        downloads = (folder or cache_folder()) / "archives"
        packed = downloads / archive.name
        if not (packed.is_file() and packed.stat().st_size == archive.size):
            downloads.mkdir(parents=True, exist_ok=True)
            download(archive.url, packed, archive.size, archive.sha256, report)
        with open_member(packed, file.name) as source:
            copy_exactly(source, part, file.size, file.sha256, name=file.path)
    elif file.url:
        download(file.url, part, file.size, file.sha256, report)
    else:
        raise CorpusError(f"{file.path} has no address: see the source of '{file.corpus}'")
    part.replace(target)
