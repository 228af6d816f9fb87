"""One training by several processes: each takes its share of a batch, gradients are averaged.

Processes are started by ``torchrun`` and joined by ``torch.distributed.init_process_group`` (gloo
on CPUs, NCCL on GPUs). The networks are small, so that all gradients travel in one message a step;
`DistributedDataParallel` would wrap the forward pass of a module, but the loss here is a method of
the pair, and its buckets only pay where gradients are large.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from jana_pymc.joint_network import Batch


def n_processes() -> int:
    """Number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if n_processes() > 1 else 0


def local_device() -> torch.device:
    """The CUDA device of this process where there is one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def agreed_seed(seed: int, *, chosen: bool) -> int:
    """The seed of all processes that train together: that of the first, if none was chosen.

    Raises
    ------
    ValueError
        If seeds were chosen and are not the same: each process would train networks of its own.
    """
    n = n_processes()
    if n == 1:
        return seed
    device = local_device() if dist.get_backend() == "nccl" else torch.device("cpu")
    own = torch.tensor([seed, int(chosen)], device=device)
    all_of_them = [torch.empty_like(own) for _ in range(n)]
    dist.all_gather(all_of_them, own)
    seeds, choices = torch.stack(all_of_them).T.tolist()
    if any(choices) and len({*zip(seeds, choices, strict=True)}) > 1:
        raise ValueError(
            f"random_seed differs among the {n} processes that train together; give all the same."
        )
    return int(seeds[0])


def of_first_process(values: Tensor) -> Tensor:
    """What the first of all processes that train together has computed."""
    if n_processes() == 1:
        return values
    device = local_device() if dist.get_backend() == "nccl" else torch.device("cpu")
    agreed = values.to(device)
    dist.broadcast(agreed, 0)
    return agreed.to(values.device)


def share(batch: Batch) -> Batch:
    """The rows of a batch that this process learns from.

    Raises
    ------
    ValueError
        If the rows cannot be shared equally: the mean of gradients would not be that of the batch.
    """
    n = n_processes()
    if n == 1:
        return batch
    if len(batch) % n:
        raise ValueError(
            f"a batch of {len(batch)} data sets cannot be shared equally by {n} processes; choose "
            "a multiple for TrainingSettings.batch_size."
        )
    size = len(batch) // n
    return batch.rows(slice(rank() * size, (rank() + 1) * size))


def average(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by their means over all processes, in one message.

    Parameters
    ----------
    tensors : sequence of Tensor
        The same on all processes in number and shapes.
    """
    n = n_processes()
    if n == 1:
        return
    flat = torch.cat([t.detach().reshape(-1) for t in tensors])
    dist.all_reduce(flat)
    flat /= n
    for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.detach().copy_(mean.view_as(tensor))


def wait_for_all() -> None:
    """Until every process has come here."""
    if n_processes() > 1:
        dist.barrier()
