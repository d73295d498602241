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


#: In the checkout, what is installed beside the package, but for what makes it.
_SHARE = "share"
_SHARE_MAKER = "share/make.py"


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
        is_module = top == "nczip" and not Path(name).is_symlink()
        if is_module or (top == _SHARE and name != _SHARE_MAKER):
            found.add(name)
        elif top in links:
            found.add(f"{links[top]}/{rest}")
    return found


def _inner_name(name: str) -> str:
    """A wheel's path as the checkout has it: data files lie in a folder of their own."""
    top, _, rest = name.partition("/")
    return rest.removeprefix("data/") if top.endswith(".data") else name


def main(wheel: str) -> int:
    """0 where the wheel is right, else 1 with what is wrong on standard error."""
    tracked = tracked_modules()
    with zipfile.ZipFile(wheel) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    names = {_inner_name(entry.filename) for entry in entries}
    inside = {name for name in names if not name.partition("/")[0].endswith(".dist-info")}
    links = [e.filename for e in entries if stat.S_ISLNK(e.external_attr >> 16)]
    wanted = {name for name in tracked if Path(name).suffix in _DATA | {".py"}}
    wanted |= {name for name in tracked if name.startswith(f"{_SHARE}/")}
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
