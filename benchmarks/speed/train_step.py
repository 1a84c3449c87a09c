"""One step of training: the gradient of a ranking loss beside geoopt's, and whole steps.

A *gradient* gathers rows of a table, computes the softmax loss of pairs and their negatives and the
gradients of the rows that were touched. A whole *step* also draws the pairs and the negatives and
takes the optimizer's step. An item is a pair, with all its negatives.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

import poincare_taxa as pt
from benchmarks.measure import (
    Machine,
    Rows,
    WrongAnswerError,
    peak_memory,
    refuse_interpreter,
    side_by_side,
    timing,
)
from benchmarks.speed import distances
from poincare_taxa.files.records import dtype_name
from poincare_taxa.kernels import ranking_loss
from poincare_taxa.testing import synthetic_taxonomy

DIM, NEGATIVES = 10, 64
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-9}
"""Largest error of losses and gradients, relative to the largest entry. Points are not as far out
as those of `distances`: gradients of a batch add up hundreds of terms."""


class Batch(NamedTuple):
    """What a gradient is taken of."""

    table: Tensor
    anchor: Tensor
    positive: Tensor
    negatives: Tensor
    """[K], shared by all pairs, or [B, K]."""


Gradient = Callable[[Batch], tuple[Tensor, Tensor]]
"""Losses [B], and the gradient of their mean with respect to the table, dense or sparse."""


def batch_of(
    machine: Machine, manifold: str, dtype: torch.dtype, taxa: int, pairs: int, shared: bool
) -> Batch:
    """Anchors, positives and negatives from a third of the table each: none coincide."""
    generator = torch.Generator().manual_seed(0)
    task = distances.Task("paired", True, dtype, DIM, taxa, manifold)
    table = distances.points(task, taxa, generator)
    third = taxa // 3
    shapes = (pairs,), (pairs,), (NEGATIVES,) if shared else (pairs, NEGATIVES)
    rows = [
        part * third + torch.randint(third, shape, generator=generator)
        for part, shape in enumerate(shapes)
    ]
    return Batch(table.to(machine.device), *(each.to(machine.device) for each in rows))


def loss_of(distance: distances.Distance, batch: Batch, sparse: bool) -> Tensor:
    """Write log(1 + Σ exp(d₊ − d)) as a library's user would."""
    x, y, z = (
        torch.nn.functional.embedding(rows, batch.table, sparse=sparse) for rows in batch[1:]
    )
    near, far = distance(x, y), distance(x[:, None], z)
    return torch.nn.functional.softplus(torch.logsumexp(near[:, None] - far, 1))


def by_autograd(distance: distances.Distance, batch: Batch) -> tuple[Tensor, Tensor]:
    batch = batch._replace(table=batch.table.detach().requires_grad_())
    return _backward(loss_of(distance, batch, sparse=True), batch)


def by_kernels(manifold: Any, backend: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    refuse_interpreter(backend)
    batch = batch._replace(table=batch.table.detach().requires_grad_())
    return _backward(ranking_loss(*batch, manifold=manifold, sparse=True, backend=backend), batch)


def _backward(loss: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    loss.mean().backward()
    assert batch.table.grad is not None
    return loss.detach(), batch.table.grad


def implementations(manifold: str, dtype: torch.dtype, machine: Machine) -> dict[str, Gradient]:
    found: dict[str, Gradient] = {}
    if manifold == "ball":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            import geoopt
        ball = geoopt.PoincareBall(c=torch.tensor(1.0, dtype=dtype)).to(machine.device)
        found["geoopt, eager"] = partial(by_autograd, ball.dist)
    for backend in ("torch", "numba", "triton"):
        found[f"kernels, {backend}"] = partial(by_kernels, manifold, backend)
    return found


def check(found: tuple[Tensor, Tensor], batch: Batch, manifold: str) -> float:
    """Compare with autograd through the definition in float64; return the largest error."""
    dtype = batch.table.dtype
    expected = by_autograd(
        distances.REFERENCE[manifold], batch._replace(table=batch.table.double())
    )
    worst = 0.0
    for name, got, right in zip(("loss", "gradient"), found, expected, strict=True):
        got, right = (each.to_dense() if each.is_sparse else each for each in (got, right))
        if got.shape != right.shape:
            raise WrongAnswerError(f"{name} has shape {tuple(got.shape)}, not {tuple(right.shape)}")
        error = float((got.double() - right).abs().max() / right.abs().max())
        if not error <= TOLERANCE[dtype]:
            raise WrongAnswerError(
                f"{name} is off by {error:.2g}, more than {TOLERANCE[dtype]:.0e}"
            )
        worst = max(worst, error)
    return worst


def measure_gradient(
    rows: Rows,
    manifold: str,
    dtype: torch.dtype,
    *,
    taxa: int,
    pairs: int,
    shared: bool,
    seconds: float = 1.0,
) -> None:
    """Add a row for each implementation of a gradient."""
    machine = rows.machine
    kind = f"{NEGATIVES} {'shared negatives' if shared else 'negatives a pair'}"
    about = {
        "task": f"gradient, {kind}{', polar' if manifold == 'polar' else ''}",
        "dtype": dtype_name(dtype),
        "dim": DIM,
        "taxa": taxa,
        "items": pairs,
    }
    batch = batch_of(machine, manifold, dtype, taxa, pairs, shared)
    calls, peaks, errors = {}, {}, {}
    for name, gradient in implementations(manifold, dtype, machine).items():
        with rows.unless_refused(about | {"implementation": name}, ImportError, ValueError):
            gradient(batch)
            with peak_memory(machine) as peak:
                found = gradient(batch)
            errors[name] = check(found, batch, manifold)
            calls[name], peaks[name] = partial(gradient, batch), peak.bytes
    times = side_by_side(calls, machine, seconds=seconds) if calls else {}
    baseline = "geoopt, eager" if manifold == "ball" else "kernels, torch"
    for name, each in times.items():
        rows.add(
            **about,
            implementation=name,
            **timing(each, pairs),
            peak_bytes=peaks[name],
            error=errors[name],
            against=distances.ratio(times, name, baseline),
        )


def measure_step(rows: Rows, *, taxa: int, pairs: int, seconds: float = 1.0) -> None:
    """Add a row for whole steps: draw, loss, gradient, optimizer."""
    device = rows.machine.device
    about = {
        "task": f"step, {NEGATIVES} shared negatives, polar",
        "implementation": "poincare_taxa",
        "dtype": "float32",
        "dim": DIM,
        "taxa": taxa,
        "items": pairs,
    }
    tree = pt.blocks.TreeIndex(synthetic_taxonomy(taxa)).to(device)
    generator = torch.Generator(device).manual_seed(0)
    source, tile = pt.AncestorPairs(tree), pt.SharedNegatives(tree, NEGATIVES)
    embedding = pt.PoincareEmbedding(
        taxa, DIM, sparse=True, dtype=torch.float32, device=device, generator=generator
    )
    optimizer = pt.RowwiseRiemannianAdam(embedding.parameters(), lr=0.03)
    losses: list[Tensor] = []

    def step() -> None:
        drawn = source.sample(pairs, generator=generator)
        nodes, valid, _ = tile.tile(drawn, generator)
        rows = drawn[:, 1], drawn[:, 0], nodes
        loss = ranking_loss(
            embedding.weight, *rows, valid=valid, manifold="polar", sparse=True
        ).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())

    with peak_memory(rows.machine) as peak:
        step()
    times = side_by_side({"": step}, rows.machine, seconds=seconds)[""]
    while len(losses) < LEARNT:
        step()
    with rows.unless_refused(about):
        ensure_learned(torch.stack(losses))
        rows.add(**about, **timing(times, pairs), peak_bytes=peak.bytes)


LEARNT = 30
"""Steps after which a loss has fallen."""


def ensure_learned(losses: Tensor) -> None:
    early, late = losses[:5].mean().item(), losses[-5:].mean().item()
    if not late < early:
        raise WrongAnswerError(f"the loss went from {early:.3g} to {late:.3g}")
