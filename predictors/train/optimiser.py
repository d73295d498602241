"""Muon (Jordan et al., 2024) for the layers' matrices, AdamW for everything else."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nczip.predictors.train.model import Transformer, layer_rows

_MOMENTUM = 0.95
_ADAM_BETAS = (0.9, 0.95)
_DECAY = 0.05  # of the matrices, times the learning rate


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly: Newton-Schulz, quintic, in bfloat16.

    Args:
        matrices: float[n, rows, columns].
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x: Tensor = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon:
    """Momentum, orthogonalised; each matrix that is stored within another by itself."""

    def __init__(self, matrices: Sequence[tuple[Tensor, list[int]]]) -> None:
        """``matrices``: parameters, and how their rows divide into matrices."""
        self._matrices = list(matrices)
        self._momenta = [torch.zeros_like(weight) for weight, _ in self._matrices]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for (weight, rows), momentum in zip(self._matrices, self._momenta, strict=True):
            assert weight.grad is not None
            momentum.lerp_(weight.grad, 1 - _MOMENTUM)
            update = weight.grad.lerp(momentum, _MOMENTUM)
            for part, change in zip(weight.split(rows), update.split(rows), strict=True):
                alike[part.shape].append((part, change))
        for shape, parts in alike.items():
            scale = max(1.0, shape[0] / shape[1]) ** 0.5
            changes = orthogonalise(torch.stack([change for _, change in parts]))
            for (part, _), change in zip(parts, changes, strict=True):
                part.mul_(1 - rate * _DECAY).add_(change.to(part.dtype), alpha=-rate * scale)

    def state(self) -> list[Tensor]:
        return self._momenta

    def restore(self, state: list[Tensor]) -> None:
        for momentum, saved in zip(self._momenta, state, strict=True):
            momentum.copy_(saved)


class Optimiser:
    """Both, with learning rates that one factor scales."""

    def __init__(self, model: Transformer, muon_rate: float, adam_rate: float) -> None:
        matrices, others = [], []
        for name, weight in model.named_parameters():
            if name.startswith("layers.") and weight.ndim == 2:
                matrices.append((weight, layer_rows(model.shape, name.split(".", 2)[2])))
            else:
                others.append(weight)
        self._muon = Muon(matrices)
        self._adam = torch.optim.AdamW(others, lr=adam_rate, betas=_ADAM_BETAS, weight_decay=0.0)
        self._rates = (muon_rate, adam_rate)
        self._parameters = [weight for weight, _ in matrices] + others

    def step(self, factor: float) -> None:
        """Learn from the gradients, and clear them."""
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._muon.step(self._rates[0] * factor)
        for group in self._adam.param_groups:
            group["lr"] = self._rates[1] * factor
        self._adam.step()
        for weight in self._parameters:
            weight.grad = None

    def state(self) -> dict[str, Any]:
        return {"muon": self._muon.state(), "adam": self._adam.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        self._muon.restore(state["muon"])
        self._adam.load_state_dict(state["adam"])
