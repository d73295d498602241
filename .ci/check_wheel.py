"""``check_wheel.py WHEEL``: whether a wheel holds the tracked modules and data, and nothing else.

Run in the checkout that it was built from.
"""

import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

#: Beside modules, what must be in: texts and pictures are the checkout's.
_DATA = {".gguf", ".zst", ".bz2", ".xxh3", ".toml", ".typed"}


def tracked_modules() -> set[str]:
    """Paths, as in a wheel, of the tracked files of nczip/ and of the folders that it links to."""
    links = {
        os.path.normpath(Path("nczip", os.readlink(path))): path.as_posix()  # noqa: PTH115
        for path in Path("nczip").iterdir()
        if path.is_symlink()
    }
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True)
    found = set()
    for name in filter(None, listed.stdout.split("\0")):
        top, _, rest = name.partition("/")
        if top == "nczip" and not Path(name).is_symlink():
            found.add(name)
        elif top in links:
            found.add(f"{links[top]}/{rest}")
    return found


def main(wheel: str) -> int:
    """0 where the wheel is right, else 1 with what is wrong on standard error."""
    tracked = tracked_modules()
    with zipfile.ZipFile(wheel) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    names = {entry.filename for entry in entries}
    inside = {name for name in names if not name.partition("/")[0].endswith(".dist-info")}
    links = [e.filename for e in entries if stat.S_ISLNK(e.external_attr >> 16)]
    wanted = {name for name in tracked if Path(name).suffix in _DATA | {".py"}}
    errors = [f"{name} is missing" for name in sorted(wanted - inside)]
    errors += [f"{name} is not tracked" for name in sorted(inside - tracked)]
    errors += [f"{name} is a link" for name in links]
    if not any(name.endswith("/licenses/LICENSE") for name in names):
        errors.append("LICENSE is missing")
    for error in errors:
        print(f"{wheel}: {error}", file=sys.stderr)
    print(f"{wheel}: {len(inside)} files, {sum(e.file_size for e in entries) / 1e6:.1f} MB")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
