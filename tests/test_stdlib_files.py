"""The standard library's tests of lzma, bz2 and gzip, run on nczip's files and streams.

Nothing of them is copied: their classes are taken from the test package that comes with Python, and
the names that their methods look up lead to nczip. DIFFERENCES lists what does not apply, and why.
"""

import bz2
import functools
import gzip
import importlib
import lzma
import types
import unittest
from unittest import mock

import pytest

import nczip

_ANY_ERROR = (OSError, nczip.NczipError)  # bz2 and gzip have no class of their own for bad data
_OPTIONS = {"preset": "fast", "primer": False, "memory_limit": 64 << 20}


@functools.cache
def _compress(data):
    return nczip.compress(data, **_OPTIONS)


def compress(data, *_, **__):
    return _compress(bytes(data))


def decompress(data, *_, memlimit=None, **__):
    return nczip.decompress(data, memory_limit=memlimit)


def _keywords(mode, level=None, **theirs):
    """Our options for those of the other modules, which are checked as those do it."""
    lowest = theirs.pop("lowest", 0)
    if level is not None and not (isinstance(level, int) and lowest <= level <= 9):
        raise ValueError("a level that is none") if isinstance(level, int) else TypeError("a level")
    return {} if str(mode).startswith("r") else _OPTIONS


class LZMAFile(nczip.NczipFile):
    def __init__(
        self, filename=None, mode="r", *, format=None, check=-1, preset=None, filters=None
    ):
        if str(mode).startswith("r") and (check != -1 or preset is not None):
            raise ValueError("check and preset are for writing")
        super().__init__(filename, mode, **_keywords(mode))


class BZ2File(nczip.NczipFile):
    def __init__(self, filename, mode="r", *, compresslevel=9):
        super().__init__(filename, mode, **_keywords(mode, compresslevel, lowest=1))


class GzipFile(nczip.NczipFile):
    def __init__(self, filename=None, mode=None, compresslevel=9, fileobj=None, mtime=None):
        mode = mode or getattr(fileobj, "mode", "rb")
        super().__init__(fileobj or filename, mode, **_keywords(mode, compresslevel))


class LZMACompressor(nczip.Compressor):
    def __init__(self, format=1, check=-1, preset=None, filters=None):
        super().__init__(**_OPTIONS)


class LZMADecompressor(nczip.Decompressor):
    check = mock.ANY  # ours is always the same, and always there

    def __init__(self, format=0, memlimit=None, filters=None):
        super().__init__(memory_limit=memlimit)


class BZ2Compressor(nczip.Compressor):
    def __init__(self):
        super().__init__(**_OPTIONS)


class BZ2Decompressor(nczip.Decompressor):
    def __init__(self):
        super().__init__()


def _opener(kind):
    def opened(filename, mode="rb", compresslevel=9, encoding=None, errors=None, newline=None, **_):
        options = _keywords(mode, compresslevel, lowest=1 if kind is BZ2File else 0)
        texts = {"encoding": encoding, "errors": errors, "newline": newline}
        return nczip.open(filename, mode, **texts, **options)

    return opened


def _adapt(module_name, replaced, module_alias, alias):
    """The test module's namespace, in which ``alias`` and ``replaced`` lead to nczip."""
    try:
        source = importlib.import_module(f"test.{module_name}")
    except ImportError:
        pytest.skip("Python's own test package is not installed", allow_module_level=True)
    shim = types.SimpleNamespace(**vars(module_alias))
    vars(shim).update(alias)
    namespace = dict(vars(source))
    namespace.update(replaced, **{module_alias.__name__: shim})

    def rebind(function):
        if not isinstance(function, types.FunctionType) or function.__globals__ is not vars(source):
            return function
        bound = types.FunctionType(
            function.__code__, namespace, function.__name__, function.__defaults__,
            function.__closure__,
        )  # fmt: skip
        bound.__kwdefaults__ = function.__kwdefaults__
        return bound

    def take(name, bases=(unittest.TestCase,), **attributes):
        members = {key: rebind(value) for key, value in vars(getattr(source, name)).items()}
        members.pop("__dict__", None)
        members.pop("__weakref__", None)
        return type(name, bases, members | attributes)

    return source, take


def _without(name, case):
    """The test class, with the tests that do not apply skipped with their reasons."""
    for test, reason in DIFFERENCES[name].items():
        assert hasattr(case, test), f"{name} has no {test}"
        setattr(case, test, unittest.skip(reason)(getattr(case, test)))
    return case


_THEIR_OPTIONS = "about options that only the other format has"
_THEIR_FORMAT = "about bytes or fields of the other format"
_JUNK = "what follows a member and is not nczip is an error: a damaged member is not passed over"
_NONE = "a size of None means no limit, as in LZMAFile; BZ2File takes only numbers"
_INSIDE = "looks inside of the other class"

_ONE_FORMAT = "about streams of a second format, or without a header"

DIFFERENCES = {
    "lzma streams": {
        "test_simple_bad_args": _THEIR_OPTIONS,
        "test_bad_filter_spec": _THEIR_OPTIONS,
        "test_decompressor_bad_input": _ONE_FORMAT,
        "test_decompressor_bug_28275": _ONE_FORMAT,
    },
    "lzma functions": {
        "test_bad_args": _THEIR_OPTIONS,
        "test_decompress_bad_input": _ONE_FORMAT,
        "test_decompress_trailing_junk": _JUNK,
        "test_decompress_multistream_trailing_junk": _JUNK,
    },
    "bz2 compressor": {},
    "bz2 decompressor": {},
    "bz2 functions": {
        "testDecompressEmpty": "no bytes at all are an error, as in lzma",
        "testDecompressTrailingJunk": _JUNK,
        "testDecompressMultiStreamTrailingJunk": _JUNK,
    },
    "lzma": {
        "test_init_bad_check": _THEIR_OPTIONS,
        "test_init_bad_filter_spec": _THEIR_OPTIONS,
        "test_init_bad_preset": _THEIR_OPTIONS,
        "test_init_with_preset_and_filters": _THEIR_OPTIONS,
        "test_read_trailing_junk": _JUNK,
        "test_read_multistream_trailing_junk": _JUNK,
    },
    "lzma.open": {},
    "bz2": {
        "testReadTrailingJunk": _JUNK,
        "testReadMultiStreamTrailingJunk": _JUNK,
        "testReadLine": _NONE,
        "testReadLineMultiStream": _NONE,
        "testReadLines": _NONE,
        "testReadLinesMultiStream": _NONE,
        "testReadlinesNoNewline": _THEIR_FORMAT,
    },
    "bz2.open": {},
    "gzip": {
        "test_compress_correct_level": _THEIR_FORMAT,
        "test_compress_mtime": _THEIR_FORMAT,
        "test_compresslevel_metadata": _THEIR_FORMAT,
        "test_metadata": _THEIR_FORMAT,
        "test_metadata_ascii_name": _THEIR_FORMAT,
        "test_mtime": _THEIR_FORMAT,
        "test_read_with_extra": _THEIR_FORMAT,
        "test_zero_padded_file": _JUNK,
        "test_fileobj_mode": "mode is 'rb' or 'wb', as in LZMAFile; GzipFile has numbers",
        "test_mode": "files are named by _fp, as in LZMAFile; GzipFile has fileobj and myfileobj",
        "test_io_on_closed_object": _INSIDE,
        "test_paddedfile_getattr": _INSIDE,
        "test_prepend_error": _INSIDE,
        "test_seek_write": "what is written cannot be sought, as in LZMAFile",
        "test_write_read_with_pathlike_file": "a closed file has no name, as in LZMAFile",
    },
    "gzip.open": {
        "test_encoding": "UTF-16 gets no byte order mark where files do not seek, as in LZMAFile"
    },
}

_INPUT = importlib.import_module("test.test_lzma").INPUT
_CONSTANTS = {
    f"COMPRESSED_{form}": _compress(_INPUT)
    for form in ("XZ", "ALONE", "RAW_1", "RAW_2", "RAW_3", "RAW_4")
}
_, _take = _adapt(
    "test_lzma",
    {"LZMAFile": LZMAFile, "LZMAError": nczip.NczipError, **_CONSTANTS},
    lzma,
    {
        "LZMAFile": LZMAFile,
        "compress": compress,
        "decompress": decompress,
        "open": _opener(LZMAFile),
    },
)
TestLZMAFile = _without("lzma", _take("FileTestCase"))
TestLZMAOpen = _without("lzma.open", _take("OpenTestCase"))

# Of several blocks, so that some come out before all of it has gone in.
_LONG_INPUT = _INPUT * 4
_BLOCKS = nczip.compress(_LONG_INPUT, block_size=1024, **_OPTIONS)
_, _take = _adapt(
    "test_lzma",
    {
        "LZMACompressor": LZMACompressor,
        "LZMADecompressor": LZMADecompressor,
        "LZMAError": nczip.NczipError,
        "INPUT": _LONG_INPUT,
        **dict.fromkeys(_CONSTANTS, _BLOCKS),
    },
    lzma,
    {"compress": compress, "decompress": decompress},
)
TestLZMAStreams = _without("lzma streams", _take("CompressorDecompressorTestCase"))
TestLZMAFunctions = _without("lzma functions", _take("CompressDecompressFunctionTestCase"))

_bz2, _take = _adapt(
    "test_bz2",
    {
        "BZ2File": BZ2File,
        "BZ2Compressor": BZ2Compressor,
        "BZ2Decompressor": BZ2Decompressor,
        "ext_decompress": decompress,
        "OSError": _ANY_ERROR,
        "ValueError": (ValueError, nczip.CorruptError),
    },
    bz2,
    {"BZ2File": BZ2File, "compress": compress, "decompress": decompress, "open": _opener(BZ2File)},
)
_base = _take("BaseTest")
_base.DATA = _compress(_base.TEXT)
_base.EMPTY_DATA = _compress(b"")
_base.BIG_TEXT = bytes(_base.BIG_TEXT[:20_000])
_base.BIG_DATA = nczip.compress(_base.BIG_TEXT, block_size=4096, **_OPTIONS)
TestBZ2File = _without("bz2", _take("BZ2FileTest", (_base,)))
TestBZ2Open = _without("bz2.open", _take("OpenTest", (_base,)))
TestBZ2Compressor = _without("bz2 compressor", _take("BZ2CompressorTest", (_base,)))
TestBZ2Decompressor = _without("bz2 decompressor", _take("BZ2DecompressorTest", (_base,)))
TestBZ2Functions = _without("bz2 functions", _take("CompressDecompressTest", (_base,)))

_gzip, _take = _adapt(
    "test_gzip",
    {"OSError": _ANY_ERROR},
    gzip,
    {
        "GzipFile": GzipFile,
        "BadGzipFile": nczip.NczipError,
        "compress": compress,
        "decompress": decompress,
        "open": _opener(GzipFile),
    },
)
_base = _take("BaseTest")
TestGzipFile = _without("gzip", _take("TestGzip", (_base,)))
TestGzipOpen = _without("gzip.open", _take("TestOpen", (_base,)))
del _base
