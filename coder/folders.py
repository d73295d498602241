"""Cache folders that nobody else can plant anything in.

What lies in our caches is trusted when it is read back: compiled kernels are pickles, which run
code, and the primed table decides probabilities. So a cache folder must belong to the user, nobody
else may write to it, and nobody else may put another folder in its place.
"""

import os
import stat
from pathlib import Path

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def private_folder(path: Path) -> Path:
    """The folder, made with mode 0700 where it is missing, its links resolved.

    Raises:
        OSError: it cannot be made.
        PermissionError: somebody else owns it or can write to it, or can replace it.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = Path(os.path.realpath(path))
    if not _has_owners():
        return path
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to another user")
    if status.st_mode & _OTHERS_WRITE:
        raise PermissionError(f"others can write to {path}: remove it, or take that right away")
    for parent in path.parents:
        if _can_be_replaced(parent.stat()):
            raise PermissionError(f"others can replace {path}, for they can write to {parent}")
    return path


def is_own_file(status: os.stat_result) -> bool:
    """Whether a file is the user's own and nobody else can write to it."""
    if not stat.S_ISREG(status.st_mode):
        return False
    if not _has_owners():
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_WRITE


def _has_owners() -> bool:
    return hasattr(os, "geteuid")  # Windows keeps other accounts out of a user's folders


def _can_be_replaced(folder: os.stat_result) -> bool:
    """Whether somebody else can rename what lies in ``folder``, as in sshd's StrictModes.

    In a sticky folder, as /tmp is, only owners can. The user's own group may write: on systems
    that give each user a group it does by default.
    """
    if folder.st_uid not in (0, os.geteuid()):
        return True
    if folder.st_mode & stat.S_ISVTX:
        return False
    by_group = folder.st_mode & stat.S_IWGRP and folder.st_gid != os.getegid()
    return bool(by_group or folder.st_mode & stat.S_IWOTH)
