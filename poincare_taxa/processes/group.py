"""Processes that work together: those of ``torchrun``, or of a group that a program has made.

In training, each process has the whole table and draws its share of every batch. Where shares move
disjoint rows, each process steps its own rows and these travel now and then; else the rows that it
touched travel with their gradients after every step, and all processes take the same step. Either
way all tables are equal to the bit after an epoch. In measuring, each process takes its share of
the queries. The first process calls callbacks and writes checkpoints, while the others wait.
`torch.distributed` does the rest: gloo between CPUs, NCCL between GPUs. A process that is alone
does nothing of this.
"""

import atexit
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import distributed as dist

from poincare_taxa.files.seeds import stream_seed

__all__ = ["Processes", "own_generator"]

Result = TypeVar("Result")
Rows = NDArray[np.integer]

_TORCHRUN = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
_PATIENCE = timedelta(days=1)
"""How long a process waits for the first one, which may measure or save; torchrun ends it sooner
where one has died."""


class Processes:
    """What a process knows of those that it works with.

    Attributes
    ----------
    rank : int
        Its number, from 0 on.
    size : int
        How many there are.

    Examples
    --------
    >>> alone = Processes.joined()
    >>> alone.rank, alone.size, alone.once(lambda: "done")
    (0, 1, 'done')
    """

    rank: int
    size: int

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @classmethod
    def joined(cls) -> Self:
        """Join the processes of ``torchrun``, or of the group of the program; else be alone."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        if not os.environ.keys() >= _TORCHRUN or int(os.environ["WORLD_SIZE"]) == 1:
            return cls()
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        store, rank, size = next(rendezvous("env://"))
        # After a restart, the store of torchrun still has the addresses of processes that are gone.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = PrefixStore(f"poincare_taxa/{attempt}", store)
        on_gpus = torch.cuda.is_available() and dist.is_nccl_available()
        backend = "cpu:gloo,cuda:nccl" if on_gpus else "gloo"
        with _threads_in_turn():
            dist.init_process_group(
                backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE
            )
        # Its threads may still let go of tensors, and where the interpreter is gone by then, that
        # aborts the process ("terminate called without an active exception").
        atexit.register(_leave)
        return cls(rank, size)

    def device(self, device: torch.device | str | None) -> torch.device | str | None:
        """Return a GPU of this process's own where "cuda" leaves open which."""
        if self.size > 1 and device is not None and torch.device(device) == torch.device("cuda"):
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", self.rank)))
        return device

    def once(self, action: Callable[[], Result]) -> Result:
        """Run an action in the first process; its result, or its error, is that of all."""
        if self.size == 1:
            return action()
        outcome: list[Any] = [None, None]
        if self.rank == 0:
            try:
                outcome[0] = action()
            except Exception as error:  # which all raise; else they would wait for ever
                outcome[1] = error
        dist.broadcast_object_list(outcome, src=0)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    def generator(self, shared: torch.Generator) -> torch.Generator:
        """Return the generator of this process's batches: another one in each, from one state."""
        if self.size == 1:
            return shared
        return own_generator(shared, self.rank, shared.device)

    def copy_first(self, points: Tensor) -> None:
        """Overwrite the table with that of the first process."""
        if self.size > 1:
            dist.broadcast(points.data, src=0)

    def values_of_all(self, value: Result) -> list[Result]:
        """Collect a value of each process, in their order."""
        found: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(found, value)
        return found

    def require_equal(self, value: object, message: str) -> None:
        """Raise RuntimeError unless all processes have the same value."""
        found = self.values_of_all(value)
        if any(one != found[0] for one in found):
            raise RuntimeError(message)

    def each(self, action: Callable[[], Result]) -> list[Result]:
        """Run an action in every process; all have the results of all, and every error."""
        if self.size == 1:
            return [action()]
        mine: Any
        try:
            mine = action()
        except Exception as error:  # which all raise; else they would wait for ever
            mine = error
        found = self.values_of_all(mine)
        for part in found:
            if isinstance(part, Exception):
                raise part
        return found

    def split(
        self, queries: Rows, measure: Callable[[Rows], dict[str, NDArray[Any]]]
    ) -> dict[str, NDArray[Any]]:
        """Measure queries, each process its share of them; all have the results of all, in order.

        Parameters
        ----------
        queries
            Integers [q], the same ones in all processes.
        measure
            Called with some of the queries: name → numbers of each, along the first axis. Its error
            is that of all processes.
        """
        if self.size == 1:
            return measure(queries)
        found = self.each(lambda: measure(np.array_split(queries, self.size)[self.rank]))
        names = {name: None for part in found for name in part}  # none where there was no query
        return {
            name: np.concatenate([part[name] for part in found if name in part]) for name in names
        }

    def exchange(self, tables: Iterable[Tensor], owned: Sequence[Tensor]) -> None:
        """Overwrite rows of tables, in place, by those of the process that owns them.

        Parameters
        ----------
        tables
            Tensors [n, …], of which each process has changed rows of its own.
        owned
            Rows of each process, disjoint; the same lists in all.
        """
        if self.size == 1:
            return
        mine, longest = owned[self.rank], max(map(len, owned))
        for table in tables:
            held = table.detach().as_subclass(Tensor)
            sent = held.new_zeros(longest, *held.shape[1:])
            sent[: len(mine)] = held[mine]
            received = self._gathered(sent)
            for rank, rows in enumerate(owned):
                if rank != self.rank:
                    held[rows] = received[rank, : len(rows)]

    def average(self, points: Any, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Average terms over processes, and add up the gradients of the table in place.

        Of sparse gradients, only the touched rows travel.
        """
        if self.size == 1:
            return terms
        gradient: Any = points.grad
        rows = points.new_zeros(0, dtype=torch.int64)
        values = points.new_zeros(0, points.shape[1])
        dense = gradient is not None and not gradient.is_sparse
        if gradient is not None and gradient.is_sparse:
            gradient = gradient.coalesce()
            rows, values = gradient.indices()[0], gradient.values()
        # 1. How many rows each process has touched (-1 for a dense gradient), and its terms.
        listed = [rows.new_tensor(-1 if dense else len(rows)), *terms.values()]
        heads = self._gathered(torch.stack([x.detach().double().reshape(()) for x in listed]))
        counts = [int(count) for count in heads[:, 0].tolist()]
        # 2. The gradients: added up in the order of the processes, the same one in all.
        if min(counts) < 0:
            points.grad = torch.zeros_like(points) if gradient is None else gradient.to_dense()
            dist.all_reduce(points.grad.data)
        else:
            points.grad = self._joined_rows(points, rows, values, counts)
        return dict(zip(terms, heads[:, 1:].mean(0), strict=True))

    def _joined_rows(self, points: Any, rows: Tensor, values: Tensor, counts: list[int]) -> Tensor:
        """Sparse gradient of the rows of all processes."""
        width = values.shape[1] * values.element_size()
        packed = rows.new_zeros(max(counts), 8 + width, dtype=torch.uint8)
        packed[: len(rows), :8] = rows[:, None].contiguous().view(torch.uint8)
        packed[: len(rows), 8:] = values.contiguous().view(torch.uint8)
        sent = self._gathered(packed)
        every = torch.cat([sent[rank, :count] for rank, count in enumerate(counts)])
        rows = every[:, :8].contiguous().view(torch.int64)[:, 0]
        values = every[:, 8:].contiguous().view(values.dtype)
        joint = torch.sparse_coo_tensor(
            rows[None],
            values,
            points.shape,
            check_invariants=False,
            is_coalesced=bool((rows.diff() > 0).all()) or None,
        )
        return joint.coalesce()

    def _gathered(self, tensor: Tensor) -> Tensor:
        """Tensors of one shape of all processes [size, …]."""
        everything = tensor.new_empty(self.size, *tensor.shape)
        dist.all_gather(list(everything.unbind()), tensor)
        return everything


@contextmanager
def _threads_in_turn() -> Iterator[None]:
    """Threads that are made in a block do not interrupt others of their core when they wake up.

    One of gloo's threads tries for a lock without sleeping. Where it has interrupted the thread
    that holds the lock, on the same core, it does so until its time is up, for 2 to 5 ms.
    """
    changed = False
    with suppress(AttributeError, OSError):  # where the system has no such calls, or forbids them
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
            changed = True
    try:
        yield
    finally:
        if changed:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _leave() -> None:
    """End the group that was made here, unless the program has done so."""
    if dist.is_initialized():
        dist.destroy_process_group()


def own_generator(
    shared: torch.Generator | None, rank: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return the generator of a process: another one for each rank, from one shared state."""
    at = "cpu" if shared is None else shared.device
    seed = int(torch.randint(2**62, (), generator=shared, device=at))
    return torch.Generator(device).manual_seed(stream_seed(seed, f"process {rank}"))
