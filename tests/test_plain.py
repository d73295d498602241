"""Kernels without compilation: the same bytes, so that they can be stepped through."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nczip.coder.plain import plain_kernel


def _lines(**environment: str) -> list[str]:
    script = Path(__file__).parent / "plain_streams.py"
    done = subprocess.run(
        [sys.executable, script], env=os.environ | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_streams_are_the_same_without_compilation():
    compiled = _lines()
    assert len(compiled) == 4 and all(len(line) > 20 for line in compiled)
    assert _lines(NUMBA_DISABLE_JIT="1") == compiled


def test_small_integers_are_widened_before_they_are_computed_with():
    @plain_kernel
    def total(octets, words, out):
        out[0] = octets[0] + octets[1]  # stored in a byte: wraps
        return octets[0] + octets[1], words[0] << 8, words[0] * words[0]

    out = np.zeros(1, np.uint8)
    octets, words = np.array([200, 100], np.uint8), np.array([1 << 31], np.uint32)
    results = total(octets, words, out)
    assert results == (300, 1 << 39, 1 << 62) and out[0] == 44
    assert all(type(value) is np.int64 for value in results)


def test_literals_that_a_kernel_returns_have_64_bits():
    half = plain_kernel(lambda: 0.5)()
    assert type(half) is np.float64 and type(np.float32(1.0) * half) is np.float64


def test_a_failing_kernel_leaves_no_trace():
    @plain_kernel
    def fail(values):
        raise ValueError(type(values).__name__)

    for _ in range(2):
        with pytest.raises(ValueError, match="NarrowArray"):
            fail(np.zeros(1, np.uint8))
