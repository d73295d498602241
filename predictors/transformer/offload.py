"""What GPUs do; apart from what takes long to import, for options are made of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Offload:
    """What GPUs do under the llama engine, where llama.cpp was built for them.

    Raises:
        ValueError: a number that cannot be.
    """

    layers: int | None = None  #: that GPUs evaluate; None for all, 0 for none
    #: GPUs by number, each with the whole model and blocks of its own; where none is named, the
    #: layers of one model are spread over all that there are.
    devices: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.layers is not None and self.layers < 0:
            raise ValueError(f"{self.layers} layers cannot be on a GPU")
        if min(self.devices, default=0) < 0 or len(set(self.devices)) < len(self.devices):
            raise ValueError(f"GPUs {', '.join(map(str, self.devices))} cannot be")
        if self.devices and self.layers == 0:
            raise ValueError("no layers on the GPUs that are named")

    @property
    def is_asked_for(self) -> bool:
        """Whether somebody wants a GPU, and not only takes what there is."""
        return bool(self.layers or self.devices)
