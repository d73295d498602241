"""The learnt state: how far to trust what predictors say, learnt offline and shipped.

Counters, mixer weights and APMs are learnt by really coding other text under the primed table
(predictors/train/primer.py). They are shipped in integers, so that they are the same everywhere,
together with the names of the inputs and weight sets that they were learnt for: a layout with a new
context or predictor takes over what it shares with that one, and starts the new parts from nothing.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nczip.predictors.ensemble import Ensemble, learnt_state
from nczip.predictors.layout import FULL, Layout

State = Mapping[str, npt.NDArray[Any]]

# Floats are kept in units of these; counters by their upper 16 bits and their count.
_UNITS = {"weights": 2.0**-13, "final_weights": 2.0**-13, "curves": 2.0**-15}
# Counts are capped, so that what was learnt still adapts quickly.
_COUNT_LIMIT = 30
_USES_LIMIT = 30
_INPUTS, _SETS = "inputs", "sets"


def layout_names(layout: Layout = FULL) -> dict[str, npt.NDArray[Any]]:
    """The names of a layout's inputs and weight sets, as part of a state."""
    return {_INPUTS: np.array(layout.input_names), _SETS: np.array(layout.set_names)}


def pack_learnt(state: State, layout: Layout = FULL) -> bytes:
    """The state of :func:`~nczip.predictors.ensemble.learnt_state` as an ``npz`` of integers."""
    packed = layout_names(layout)
    for name, array in state.items():
        if name in packed:
            continue
        if array.dtype == np.float32:
            levels = np.rint(array / np.float32(_UNITS[name]))
            packed[name] = np.clip(levels, -32768, 32767).astype(np.int16)
        elif array.dtype == np.uint32:
            packed[name] = (array >> 16).astype(np.uint16)
            packed[name + "_count"] = np.minimum(array & 1023, _COUNT_LIMIT).astype(np.uint8)
        else:
            packed[name] = np.minimum(array, _USES_LIMIT).astype(np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **packed)  # type: ignore[arg-type]
    return buffer.getvalue()


def unpack_learnt(packed: bytes) -> dict[str, npt.NDArray[Any]]:
    """The state that :func:`pack_learnt` was given, rounded, with the names of its layout."""
    state: dict[str, npt.NDArray[Any]] = {}
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        for name in arrays.files:
            array = arrays[name]
            if array.dtype == np.int16:
                state[name] = array.astype(np.float32) * np.float32(_UNITS[name])
            elif array.dtype == np.uint16:
                counts = arrays[name + "_count"].astype(np.uint32)
                state[name] = array.astype(np.uint32) << np.uint32(16) | counts
            elif name in (_INPUTS, _SETS):
                state[name] = array
            elif not name.endswith("_count"):
                state[name] = array.astype(np.uint16)
    return state


def adopt(ensemble: Ensemble, learnt: State, layout: Layout = FULL) -> None:
    """Let an ensemble that has coded nothing start from a learnt state."""
    inputs, sets = tuple(learnt[_INPUTS]), tuple(learnt[_SETS])
    if (inputs, sets) != (layout.input_names, layout.set_names):
        learnt = _fitted(learnt_state(ensemble, layout), learnt, layout)
    for name, array in learnt_state(ensemble, layout).items():
        array[...] = learnt[name]


def _fitted(fresh: State, learnt: State, layout: Layout) -> dict[str, npt.NDArray[Any]]:
    """``fresh``, a state of this layout, with all that it shares with ``learnt``, of another.

    The banks of the two agree; a set's rows are taken if there are as many in both.
    """
    fitted = {name: array.copy() for name, array in fresh.items()}
    for name in fitted.keys() & learnt.keys() - {"weights", "uses", "histories"}:
        if fitted[name].shape == learnt[name].shape:
            fitted[name] = learnt[name]
    old_inputs = learnt[_INPUTS].tolist()
    columns = [
        (new, old_inputs.index(name))
        for new, name in enumerate(layout.input_names)
        if name in old_inputs
    ]
    new_places, old_places = (list(places) for places in zip(*columns, strict=True))
    contexts = [new for new in new_places if new < layout.contexts.size]
    known = old_places[: len(contexts)]
    fitted["histories"][:, contexts] = learnt["histories"][:, known]
    if tuple(learnt[_SETS]) == layout.set_names:
        rows = len(learnt["uses"])
        weights = fitted["weights"].reshape(len(fitted["uses"]), -1)
        weights[:rows, new_places] = learnt["weights"].reshape(rows, -1)[:, old_places]
        fitted["uses"][:rows] = learnt["uses"]
    return fitted
