"""``versions.py WHEEL [--all]``: the wheel on every Python here, with newest and oldest packages.

Each pair gets an empty environment, into which pip installs the wheel alone: some tests must pass
there, and streams have the bytes of tests/golden. Pythons are those on the PATH and pyenv's. One
for which a package has no wheel is passed over, with a word; of one that is not here it is said
whether all have. Without ``--all`` the oldest Python is tried with the oldest packages, and the
newest with the newest.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIRST_MINOR, LAST_MINOR = 11, 14
TESTS = ["test_container.py", "test_zstd_habits.py", "test_integrations.py"]
SHOWN = ("numpy==", "numba==", "llvmlite==", "zstandard==", "click==")


def pythons() -> dict[int, Path]:
    """The interpreters that are here, by minor version."""
    found = {}
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for minor in range(FIRST_MINOR, LAST_MINOR + 1):
        places = [shutil.which(f"python3.{minor}"), *sorted(pyenv.glob(f"3.{minor}.*/bin/python"))]
        for place in filter(None, places):
            told = subprocess.run(
                [place, "-c", "import venv, ensurepip"], capture_output=True, check=False
            )
            if told.returncode == 0:  # a shim of pyenv's may lead nowhere
                found[minor] = Path(place)
    return found


def oldest() -> list[str]:
    """Constraints: the oldest version of each dependency that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = []
    for requirement in project["dependencies"]:
        name, version = re.match(r"([\w-]+)>=([\w.]+)", requirement).groups()
        found.append(f"{name}=={version}")
    return found


def lacks_wheel(command: list[str | Path]) -> str | None:
    """Run a pip command; what it finds no wheel of, None where it succeeds.

    Raises:
        subprocess.CalledProcessError: it fails for another reason.
    """
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode == 0:
        return None
    missing = re.search(r"No matching distribution found for (\S+)", told.stderr)
    if missing:
        return missing[1]
    sys.stderr.write(told.stderr)
    told.check_returncode()
    return None


def check(python: Path, wheel: Path, constraints: list[str], folder: Path) -> str:
    """Install the wheel into an empty environment and try it; what there is to say of it.

    Raises:
        subprocess.CalledProcessError: something went wrong; it has said what.
    """
    subprocess.run([python, "-m", "venv", folder / "env"], check=True)
    inside = folder / "env" / "bin" / "python"
    (folder / "constraints.txt").write_text("\n".join(constraints))
    pip = [inside, "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
    pip += ["-c", folder / "constraints.txt"]
    missing = lacks_wheel([*pip, wheel])
    if missing:
        return f"passed over: there is no wheel of {missing}"
    subprocess.run([inside, "-m", "pip", "check"], check=True, stdout=subprocess.DEVNULL)
    listed = subprocess.run(
        [inside, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    ).stdout.split()
    subprocess.run([*pip, "pytest", "pytest-timeout", "hypothesis"], check=True)
    # The tests without the checkout, which would come before what is installed.
    shutil.copytree(ROOT / "tests", folder / "tests")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["NCZIP_KERNEL_CACHE"] = str(folder / "kernels")
    test = [inside, "-m", "pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider"]
    files = [str(folder / "tests" / name) for name in TESTS]
    subprocess.run([*test, *files], check=True, env=environment, cwd=folder)
    made = subprocess.run(
        [inside, "tests/stream_hash.py"],
        check=True, env=environment, cwd=folder, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    pinned = json.loads((ROOT / "tests/golden/streams.json").read_text())["stream_hash.py"]
    if made != pinned["sha256"]:
        raise SystemExit(f"{python}: other bytes come out ({made})")
    versions = ", ".join(line for line in listed if line.startswith(SHOWN))
    return f"the same bytes; {len(listed)} packages, {versions}"


def main() -> None:
    """Try every pair that is asked for; the first that is wrong ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--all", action="store_true", help="every Python with both")
    arguments = parser.parse_args()
    here = pythons()
    pairs = [(minor, old) for minor in here for old in (True, False)]
    if not arguments.all:
        pairs = [(min(here), True), (max(here), False)]
    for minor, old in pairs:
        with tempfile.TemporaryDirectory() as folder:
            wheel = arguments.wheel.resolve()
            said = check(here[minor], wheel, oldest() if old else [], Path(folder))
        print(f"Python 3.{minor}, {'oldest' if old else 'newest'} packages: {said}", flush=True)
    for minor in sorted(set(range(FIRST_MINOR, LAST_MINOR + 1)) - set(here)):
        with tempfile.TemporaryDirectory() as folder:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
            pip += ["--only-binary", ":all:", "--python-version", f"3.{minor}", "--target", folder]
            missing = lacks_wheel([*pip, arguments.wheel])
        what = f"no wheel of {missing}" if missing else "a wheel of each package"
        print(f"Python 3.{minor} is not here to be tried; there is {what}", flush=True)


if __name__ == "__main__":
    main()
