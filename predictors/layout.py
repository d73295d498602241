"""Layouts: the members of an ensemble, and the places of what they give the mixer.

This is the only module with numbers of positions. To add a predictor, write its file (protocol.py
says what it owes) and name it in a layout; all else follows from there. Kernels are compiled for
each layout that is used: what a layout leaves out costs it nothing.
"""

from collections import namedtuple
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from nczip.coder import exactmath
from nczip.coder.jit import kernel
from nczip.coder.vectors import LANES
from nczip.predictors import (
    constant,
    contexts,
    match,
    memory,
    network,
    ngram,
    order0,
    runs,
    surroundings,
)
from nczip.predictors.contexts import ContextLists
from nczip.predictors.protocol import Predictor, WeightSet
from nczip.predictors.transformer import guide

#: Banks of rows: for the bits of a byte; under a transformer also for "token ends here", and for
#: the bits of a token's first byte: only the transformer knows which bytes a token may start with.
BITS, TOKEN_ENDS, FIRST_BITS, BANKS = range(4)
PARTIAL_BYTES = 256


def _unique(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True, eq=False)
class Layout:
    """The members of an ensemble, and all that follows from them."""

    name: str
    contexts: ContextLists
    #: In the order of their inputs; a state may be made of those of predictors before it.
    predictors: tuple[Predictor, ...]
    #: The sets whose rows also choose a final mixer, of the second layer. A first final mixer is
    #: chosen by the partial byte; None for no second layer.
    final_by: tuple[str, ...] | None
    curves: int  #: APMs: 2, by the classes of the last two bytes and by these; 1, by the last byte
    advance: Callable[..., Any]  #: what takes a byte into a lane's memory
    squash: Callable[..., Any]  #: what makes the mixed logit a probability

    def __post_init__(self) -> None:
        assert len({member.name for member in self.predictors}) == len(self.predictors)
        assert len(set(self.set_names)) == self.sets
        if self.finals:
            assert self.sets + len(self.final_inputs) <= LANES, "the final mixers have 16 inputs"
        for member in self.predictors:  # a predictor writes its inputs one after another
            places = [self.input_names.index(name) for name in member.inputs]
            first = min(places, default=0)
            assert places == list(range(first, first + len(places)))

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        """Names of the mixer's inputs; predictors that name the same one share it."""
        return _unique([name for member in self.predictors for name in member.inputs])

    @cached_property
    def inputs(self) -> int:
        """The length of the vector of inputs: as SIMD likes it, the rest stays zero."""
        return -(-len(self.input_names) // LANES) * LANES

    @cached_property
    def final_inputs(self) -> npt.NDArray[np.int64]:
        """The inputs that also enter the final mixers."""
        names = _unique([name for member in self.predictors for name in member.final_inputs])
        return np.array([self.input_names.index(name) for name in names], np.int64)

    @cached_property
    def weight_sets(self) -> tuple[WeightSet, ...]:
        return tuple(s for member in self.predictors for s in member.sets)

    @cached_property
    def set_names(self) -> tuple[str, ...]:
        return tuple(weight_set.name for weight_set in self.weight_sets)

    @property
    def sets(self) -> int:
        return len(self.weight_sets)

    @cached_property
    def set_starts(self) -> npt.NDArray[np.int64]:
        """Where each set's rows start in a bank, int64[sets]."""
        return _starts([weight_set.rows for weight_set in self.weight_sets])

    @property
    def bank_rows(self) -> int:
        """The rows of a bank."""
        return sum(weight_set.rows for weight_set in self.weight_sets)

    @cached_property
    def final_sets(self) -> npt.NDArray[np.int64]:
        """The sets whose rows also choose a final mixer."""
        return np.array([self.set_names.index(name) for name in self.final_by or ()], np.int64)

    @property
    def finals(self) -> int:
        """The final mixers."""
        return 0 if self.final_by is None else 1 + len(self.final_sets)

    @cached_property
    def final_starts(self) -> npt.NDArray[np.int64]:
        """Where each final mixer's rows start in a bank, int64[finals]."""
        return _starts(self._final_rows)

    @property
    def final_bank_rows(self) -> int:
        return sum(self._final_rows)

    @property
    def _final_rows(self) -> list[int]:
        rows = [PARTIAL_BYTES] + [self.weight_sets[i].rows for i in self.final_sets]
        return rows[: self.finals]

    def owners(self, binary: bool) -> list[set[str]]:
        """The predictors that give each input, and the family of a context's or its run's."""
        labels = contexts.family_labels(self.contexts.binary if binary else self.contexts.text)
        owners: list[set[str]] = [set() for _ in self.input_names]
        for member in self.predictors:
            for place, name in enumerate(member.inputs):
                owner = owners[self.input_names.index(name)]
                owner.add(member.name)
                if member.name in ("contexts", "runs"):
                    owner.add(labels[place])
        return owners

    @property
    def is_guided(self) -> bool:
        """Whether a transformer may guide it."""
        return guide.PREDICTOR in self.predictors

    @property
    def has_network(self) -> bool:
        """Whether the recurrent network reads text that no transformer guides."""
        return network.PREDICTOR in self.predictors

    def together(
        self, hook: str, parameters: str, first: Callable[[Predictor], int] | None = None
    ) -> Any:
        """One kernel ``hook(states, *parameters)`` that calls that hook of each predictor in turn.

        ``first`` says where in the last of the parameters a predictor's own places begin. What a
        predictor leaves out is not called, and there is no loop: each state has a type of its own.
        """
        calls: dict[str, Any] = {}
        lines = [f"def {hook}(states, {parameters}):", "    pass"]
        for member in self.predictors:
            if getattr(member, hook) is not Predictor.__dataclass_fields__[hook].default:
                place = States._fields.index(member.name)
                at = "" if first is None else f", {first(member)}"
                lines.append(f"    {member.name}(states[{place}], {parameters}{at})")
                calls[member.name] = getattr(member, hook)
        exec("\n".join(lines), calls)
        return kernel(spliced=True)(calls[hook])

    def first_input(self, member: Predictor) -> int:
        """The place of a predictor's first input."""
        return self.input_names.index(member.inputs[0]) if member.inputs else 0

    def first_set(self, member: Predictor) -> int:
        """The place of a predictor's first weight set."""
        return self.weight_sets.index(member.sets[0]) if member.sets else 0


def _starts(rows: list[int]) -> npt.NDArray[np.int64]:
    return np.cumsum([0, *rows])[:-1].astype(np.int64)


FULL = Layout(
    name="full",
    contexts=contexts.FULL,
    predictors=(
        ngram.predictor(contexts.FULL),
        runs.predictor(contexts.FULL),
        order0.PREDICTOR,
        match.PREDICTOR,
        network.PREDICTOR,
        guide.PREDICTOR,
        constant.PREDICTOR,
        surroundings.PREDICTOR,
    ),
    final_by=("confidence", "match length", "classes"),
    curves=2,
    advance=memory.advance,
    squash=exactmath.squash,
)

_MEMBERS = [member.name for member in FULL.predictors]
#: The state of each predictor, by its name, () for those that a layout leaves out; a NamedTuple,
#: which kernels take as it is.
States = namedtuple("States", _MEMBERS, defaults=((),) * len(_MEMBERS))  # type: ignore[misc]


def _small(name: str, lists: ContextLists, final_by: tuple[str, ...] | None) -> Layout:
    """A layout of few contexts, without network and transformer."""
    return Layout(
        name=name,
        contexts=lists,
        predictors=(
            ngram.predictor(lists),
            runs.predictor(lists),
            order0.PREDICTOR,
            match.PREDICTOR,
            constant.PREDICTOR,
        ),
        final_by=final_by,
        curves=1,
        advance=memory.advance_little,
        squash=exactmath.squash_near,
    )


LIGHT = _small("light", contexts.LIGHT, final_by=None)
MEDIUM = _small("medium", contexts.MEDIUM, final_by=())

LAYOUTS: Mapping[str, Layout] = {layout.name: layout for layout in (FULL, LIGHT, MEDIUM)}
