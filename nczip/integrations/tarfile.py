"""tarfile and shutil: archives that end in ``.tar.ncz`` or ``.tncz``.

``NczipTarFile.open(name, "w:ncz")`` and ``"r:*"`` are tarfile's; once this is imported,
``shutil.make_archive(name, "ncztar", folder)`` and ``shutil.unpack_archive(name, folder)`` know the
format, too.
"""

import os
import shutil
import tarfile
from collections.abc import Callable
from typing import Any, BinaryIO

from nczip.errors import FormatError
from nczip.file import NczipFile
from nczip.presets import PresetName

SUFFIXES = [".tar.ncz", ".tncz"]


class NczipTarFile(tarfile.TarFile):
    """A tar archive that may be compressed by nczip, or by what tarfile itself knows."""

    OPEN_METH = {**tarfile.TarFile.OPEN_METH, "ncz": "nczopen"}  # noqa: RUF012 - as the base has it

    @classmethod
    def nczopen(
        cls,
        name: Any,
        mode: str = "r",
        fileobj: BinaryIO | None = None,
        preset: PresetName = "default",
        **kwargs: Any,
    ) -> "NczipTarFile":
        """Open an archive for reading (``r``) or writing (``w``, ``x``).

        Raises:
            tarfile.ReadError: it is not compressed by nczip, or damaged.
            ModelError: its model is not here.
        """
        if mode not in ("r", "w", "x"):
            raise ValueError("mode must be 'r', 'w' or 'x'")
        options = {} if mode == "r" else {"preset": preset}
        packed = NczipFile(name if fileobj is None else fileobj, mode + "b", **options)
        try:
            archive = cls.taropen(name, mode, packed, **kwargs)  # type: ignore[arg-type]
        except FormatError as error:
            packed.close()
            raise tarfile.ReadError(str(error)) from error
        except BaseException:
            packed.close()
            raise
        archive._extfileobj = False  # type: ignore[attr-defined]
        return archive


def _owner_setter(
    owner: str | None, group: str | None
) -> Callable[[tarfile.TarInfo], tarfile.TarInfo]:
    """A filter that gives every entry an owner and a group by name."""
    user: Any = None
    circle: Any = None
    if owner is not None or group is not None:
        import grp
        import pwd

        user = None if owner is None else pwd.getpwnam(owner)
        circle = None if group is None else grp.getgrnam(group)

    def change(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        if user is not None:
            entry.uid, entry.uname = user.pw_uid, user.pw_name
        if circle is not None:
            entry.gid, entry.gname = circle.gr_gid, circle.gr_name
        return entry

    return change


def make_archive(
    base_name: str,
    base_dir: str,
    *,
    owner: str | None = None,
    group: str | None = None,
    dry_run: bool = False,
    logger: Any = None,
    root_dir: str | None = None,
    preset: PresetName = "default",
) -> str:
    """Write ``base_name`` + ``.tar.ncz`` as :func:`shutil.make_archive` asks for it."""
    name = base_name + SUFFIXES[0]
    if logger is not None:
        logger.info("Creating tar archive %s", name)
    if dry_run:
        return name
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    with NczipTarFile.nczopen(name, "w", preset=preset) as archive:
        source = base_dir if root_dir is None else os.path.join(root_dir, base_dir)
        archive.add(source, base_dir, filter=_owner_setter(owner, group))
    return name


make_archive.supports_root_dir = True  # type: ignore[attr-defined]


def unpack_archive(filename: str, extract_dir: str, *, filter: Any = "data") -> None:
    """Unpack as :func:`shutil.unpack_archive` asks for it; nothing leaves the folder by default.

    Raises:
        shutil.ReadError: it is no such archive.
    """
    try:
        archive = NczipTarFile.open(filename)
    except tarfile.TarError as error:
        raise shutil.ReadError(f"{filename} is not a tar archive: {error}") from error
    with archive:
        archive.extractall(extract_dir, filter=filter)


if "ncztar" not in dict(shutil.get_archive_formats()):
    shutil.register_archive_format("ncztar", make_archive, description="tar file by nczip")
if "ncztar" not in {name for name, *_ in shutil.get_unpack_formats()}:
    shutil.register_unpack_format("ncztar", SUFFIXES, unpack_archive, [], "tar file by nczip")
