"""Where outputs go: suffixes added and taken away, beside the input or in another folder."""

from pathlib import Path, PurePath
from typing import Protocol

from nczip.errors import FileSkippedError
from nczip.sources import STDIO

SUFFIX = ".ncz"
#: What decompressing puts in the place of a suffix.
_SHORT = {".tncz": ".tar"}


class Placing(Protocol):
    """The options that decide where an output goes."""

    @property
    def output(self) -> str | None: ...
    @property
    def stdout(self) -> bool: ...
    @property
    def suffix(self) -> str: ...
    @property
    def output_dir_flat(self) -> str | None: ...
    @property
    def output_dir_mirror(self) -> str | None: ...


def packed_target(name: str, options: Placing, folder_is_tar: bool = False) -> Path | None:
    """The output of compressing ``name``; None for standard output.

    Raises:
        FileSkippedError: its place lies outside of the folder for outputs.
    """
    if (whole := _named(name, options)) is not None:
        return whole.path
    path = named_folder(Path(name)) if folder_is_tar else Path(name)
    tail = ".tar" if folder_is_tar else ""
    return _placed(path.with_name(path.name + tail + options.suffix), options)


def raw_target(name: str, options: Placing) -> Path | None:
    """The output of decompressing ``name``; None for standard output.

    Raises:
        FileSkippedError: no output follows from the name, or it lies outside of the folder.
    """
    if (whole := _named(name, options)) is not None:
        return whole.path
    return _placed(Path(without_suffix(name, options.suffix)), options)


def unpacking_folder(name: str, options: Placing) -> Path:
    """Where the files of an archive go: beside it, or into the folder for outputs."""
    beside = Path() if name == STDIO else Path(name).parent
    return _placed(beside / "any", options).parent


def without_suffix(name: str, suffix: str) -> str:
    """The name of what ``name`` holds.

    Raises:
        FileSkippedError: it has no suffix of ours.
    """
    for ours, instead in {suffix: "", **_SHORT}.items():
        if name.endswith(ours) and Path(name).name != ours:
            return name.removesuffix(ours) + instead
    raise FileSkippedError(f"unknown suffix, {suffix} expected: name the output with -o or -c")


def has_suffix(name: str, suffix: str) -> bool:
    """Whether a file is compressed already, by its name."""
    return name.endswith((suffix, *_SHORT))


def named_folder(folder: Path) -> Path:
    """The same folder by a path that ends in its name."""
    return folder.resolve() if folder.name in ("", "..") else folder


class _Whole:
    """An output that does not follow from the input's name."""

    def __init__(self, path: Path | None) -> None:
        self.path = path


def _named(name: str, options: Placing) -> _Whole | None:
    if options.stdout or options.output == STDIO:
        return _Whole(None)
    if options.output is not None:
        return _Whole(Path(options.output))
    return _Whole(None) if name == STDIO else None


def _placed(path: Path, options: Placing) -> Path:
    if options.output_dir_flat is not None:
        return Path(options.output_dir_flat, path.name)
    if options.output_dir_mirror is not None:
        inside = PurePath(*path.parts[1:]) if path.is_absolute() else path
        if ".." in inside.parts:
            raise FileSkippedError("has .. in its name, which has no place in a mirrored folder")
        return Path(options.output_dir_mirror, inside)
    return path
