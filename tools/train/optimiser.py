"""Muon for the matrices, AdamW for the rest: what learns most from a few hundred steps.

Owns one update of a network's parameters. Called by `train_bundled.py`.
Source: the orthogonalised-momentum update described by Keller Jordan ("Muon", 2024).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from network import Network

_QUINTIC = (3.4445, -4.7750, 2.0315)
_MOMENTUM = 0.95


def orthogonalise(stack: Tensor, rounds: int = 5) -> Tensor:
    """Push the singular values of each matrix of a (count, rows, columns) stack towards 1."""
    a, b, c = _QUINTIC
    x = stack / (stack.norm(dim=(1, 2), keepdim=True) + 1e-7)
    wide = x.size(1) <= x.size(2)
    x = x if wide else x.transpose(1, 2)
    for _ in range(rounds):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.transpose(1, 2)


class Optimiser:
    """Updates all parameters of one network."""

    def __init__(self, network: Network, *, matrix_rate: float, other_rate: float) -> None:
        self._network = network
        self._matrix_rate = matrix_rate
        self._other_rate = other_rate
        by_shape: dict[tuple[int, ...], list[torch.nn.Parameter]] = defaultdict(list)
        others: list[torch.nn.Parameter] = []
        for name, parameter in network.named_parameters():
            if parameter.ndim == 2 and "embed" not in name:
                by_shape[tuple(parameter.shape)].append(parameter)
            else:
                others.append(parameter)
        self._groups = list(by_shape.values())
        self._momenta = [torch.zeros(len(g), *g[0].shape) for g in self._groups]
        self._adam = torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0)

    def step(self, scale: float) -> None:
        """Apply the gradients with both learning rates times `scale`, then clear them."""
        for group in self._adam.param_groups:
            group["lr"] = self._other_rate * scale
        self._adam.step()
        with torch.no_grad():
            for parameters, momentum in zip(self._groups, self._momenta, strict=True):
                gradient = torch.stack([p.grad for p in parameters if p.grad is not None])
                momentum.mul_(_MOMENTUM).add_(gradient)
                update = orthogonalise(gradient.add(momentum, alpha=_MOMENTUM))
                rows, columns = update.shape[1:]
                rate = self._matrix_rate * scale * max(1.0, rows / columns) ** 0.5
                for parameter, change in zip(parameters, update, strict=True):
                    parameter.add_(change, alpha=-rate)
        self._network.zero_grad(set_to_none=True)
