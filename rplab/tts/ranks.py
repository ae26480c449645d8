"""Training in several processes (torchrun): each takes its pieces of every batch, and gradients are averaged.

No wrapper around the modules: state dicts keep their keys, and parts that are frozen or idle in a step need no flags.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Ranks:
    """This process among its peers."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process validates, logs and writes checkpoints."""
        return self.rank == 0

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes; a parameter that none of them used keeps None."""
        if self.world == 1:
            return
        listed = list(parameters)
        used = torch.tensor([float(p.grad is not None) for p in listed], device=listed[0].device)
        dist.all_reduce(used)
        chosen = [p for p, count in zip(listed, used.tolist(), strict=True) if count]
        if not chosen:
            return
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in chosen])
        dist.all_reduce(flat)
        for parameter, part in zip(chosen, flat.split([p.numel() for p in chosen]), strict=True):
            parameter.grad = part.view_as(parameter).clone()

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        if self.world == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total

    def agree(self, wish: bool) -> bool:
        """Return whether any process wishes it; all get the same answer, so that none stops alone."""
        return wish if self.world == 1 else bool(self.sum(torch.tensor(float(wish))) > 0)

    def wait(self) -> None:
        """Return when every process is here."""
        self.agree(False)


def join_ranks(device: torch.device) -> Ranks:
    """Meet the other processes that torchrun started; alone without torchrun.

    Returns:
        The place of this process; `Ranks()` when it runs alone.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Ranks()
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    return Ranks(dist.get_rank(), world)


def own_device() -> torch.device:
    """Return the accelerator of this process, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
