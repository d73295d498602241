"""Operations written twice (coder/vectors.py): compiled against NumPy."""

import inspect

import numba
import numpy as np


def floats_of_many_sizes(rng, *shape):
    """Float32 of very different magnitudes, so that another order of additions shows."""
    return (rng.normal(size=shape) * np.exp(rng.uniform(-9, 3, shape))).astype(np.float32)


def _compiled(operation):
    """A kernel that does nothing but call the operation."""
    names = ", ".join(inspect.signature(operation.py_func).parameters)
    made = {}
    exec(f"def call({names}): return operation({names})", {"operation": operation}, made)
    return numba.njit(made["call"])


def assert_twins_agree(operation, make_arguments):
    """Compiled and plain leave the same bits in result and arguments, ten times."""
    call = _compiled(operation)
    for seed in range(10):
        mine, others = make_arguments(seed), make_arguments(seed)
        results = call(*mine), operation.py_func(*others)
        if results[0] is not None:
            kind = type(results[1])
            assert kind(results[0]).tobytes() == results[1].tobytes()
        for a, b in zip(mine, others, strict=True):
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
