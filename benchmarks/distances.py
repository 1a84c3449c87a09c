"""Distances: paired and all pairs, forward and forward with backward, in several libraries.

Each implementation gets the same points and has to return the distance, and in the backward pass
the gradient of a weighted sum of distances, that plain float64 arithmetic gives (the reference
below is written from the formula, on its own). What is wrong by more than the tolerance is refused:
it gets a row that says so, and no time.
"""

import importlib.util
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import (
    Cost,
    Limits,
    Machine,
    Rows,
    Times,
    UnavailableError,
    WrongAnswerError,
    peak_memory,
    side_by_side,
    timing,
)

Distance = Callable[[Tensor, Tensor], Tensor]
"""Points [n, dim] of the ball to distances: [n] of pairs, [n, m] of all pairs."""

LARGEST_NORM = 0.95
"""Of the points: radius 3.7. Further out a float32 ball, whoever computes in it, is noise."""

TOLERANCE = {torch.float32: 2e-3, torch.float64: 1e-8}
"""Largest error against the reference, relative to the largest entry. Wide enough for every formula
in use (artanh of a norm near 1 loses eps·e^d), narrow enough that a slip in one shows."""

BASELINE = "geoopt, eager"


# -------------------------------------------------------------------- reference


def reference(x: Tensor, y: Tensor) -> Tensor:
    """Distance in the ball from its definition: arcosh(1 + 2|x−y|²/((1−|x|²)(1−|y|²)))."""
    x, y = x.double(), y.double()
    gaps = (1 - x.square().sum(-1)) * (1 - y.square().sum(-1))
    t = 2 * (x - y).square().sum(-1) / gaps
    return torch.log1p(t + torch.sqrt(t * (t + 2)))


def all_pairs(distance: Distance, x: Tensor, y: Tensor) -> Tensor:
    return distance(x[:, None], y)


def with_gradients(distance: Distance, x: Tensor, y: Tensor, weight: Tensor) -> list[Tensor]:
    """Distance, and the gradients of its weighted sum."""
    x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
    d = distance(x, y)
    return [d.detach(), *torch.autograd.grad(d, (x, y), weight)]


def check(found: list[Tensor], expected: list[Tensor], dtype: torch.dtype) -> float:
    """Return the largest error; raise WrongAnswerError where it is beyond the tolerance."""
    worst = 0.0
    for name, got, right in zip(("distance", "∂x", "∂y"), found, expected, strict=False):
        if got.shape != right.shape:
            raise WrongAnswerError(f"{name} has shape {tuple(got.shape)}, not {tuple(right.shape)}")
        error = float((got.double() - right).abs().max() / right.abs().max())
        if not error <= TOLERANCE[dtype]:
            raise WrongAnswerError(
                f"{name} is off by {error:.2g}, more than {TOLERANCE[dtype]:.0e}"
            )
        worst = max(worst, error)
    return worst


# -------------------------------------------------------------------- implementations


@dataclass(frozen=True)
class Task:
    """What is measured."""

    kind: str  # "paired" or "all pairs"
    backward: bool
    dtype: torch.dtype
    dim: int
    pairs: int

    @property
    def name(self) -> str:
        return f"{self.kind}, forward{' + backward' if self.backward else ''}"

    @property
    def shape(self) -> tuple[int, int]:
        """Points on both sides."""
        if self.kind == "paired":
            return self.pairs, self.pairs
        rows = max(1, round(self.pairs**0.5))
        return rows, max(1, self.pairs // rows)

    @property
    def cost(self) -> Cost:
        """Per pair: points read once in each pass, distances and gradients written once."""
        size = self.dtype.itemsize
        n, m = self.shape
        points = (n + m) * self.dim * size / (n if self.kind == "paired" else n * m)
        moved, flops, special = points + size, 3 * self.dim + 12, 3.0
        if self.backward:  # points and the gradient of the distance read, gradients written
            moved, flops, special = moved + 2 * points + size, 3 * flops, special + 1
        if self.kind == "paired":
            flops += 4 * self.dim  # the norms, once per point where all pairs are asked for
        return Cost(moved, flops, special)

    def points(self, machine: Machine) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        both = []
        for n in self.shape:
            x = torch.randn(n, self.dim, generator=generator)
            norm = LARGEST_NORM * torch.rand(n, 1, generator=generator)
            both.append((norm * torch.nn.functional.normalize(x)).to(machine.device, self.dtype))
        n, m = self.shape
        weight = torch.rand(n if self.kind == "paired" else (n, m), generator=generator)
        return both[0], both[1], weight.to(machine.device, self.dtype)


def geoopt_eager(task: Task, machine: Machine) -> Distance:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import geoopt
    # A ball whose own curvature is of the dtype: .double() leaves the float32 one's rounding.
    manifold = geoopt.PoincareBall(c=torch.tensor(1.0, dtype=task.dtype)).to(machine.device)
    if task.kind == "paired":
        return manifold.dist
    return partial(all_pairs, manifold.dist)


def geoopt_compiled(task: Task, machine: Machine) -> Distance:
    return _compiled(geoopt_eager(task, machine), machine)


def asinh_form(task: Task, machine: Machine) -> Distance:
    """Plain torch, as this library's geometry writes it."""
    from poincare_taxa.geometry import ball

    return ball.dist if task.kind == "paired" else ball.cdist


def asinh_compiled(task: Task, machine: Machine) -> Distance:
    return _compiled(asinh_form(task, machine), machine)


def hypll(task: Task, machine: Machine) -> Distance:
    try:
        from hypll.manifolds.poincare_ball import Curvature, PoincareBall
        from hypll.tensors import ManifoldTensor
    except ImportError as error:
        raise UnavailableError(f"not installed ({error.name})") from None
    manifold = PoincareBall(Curvature(1.0, constraining_strategy=lambda value: value))
    manifold.to(machine.device, task.dtype)

    def dist(x: Tensor, y: Tensor) -> Tensor:
        return manifold.dist(
            ManifoldTensor(x, manifold=manifold), ManifoldTensor(y, manifold=manifold)
        )

    return dist if task.kind == "paired" else partial(all_pairs, dist)


def kernels(task: Task, machine: Machine, *, backend: str) -> Distance:
    """This library's fused kernels, by backend."""
    try:
        from poincare_taxa import kernels as fused
    except ImportError as error:
        raise UnavailableError(f"not built in ({error.name})") from None
    function: Any = fused.dist if task.kind == "paired" else fused.cdist
    try:
        function(*(torch.zeros(1, 2, device=machine.device) for _ in range(2)), backend=backend)
    except (ImportError, ValueError) as error:
        raise UnavailableError(str(error)) from None
    return partial(function, backend=backend)


def _compiled(function: Distance, machine: Machine) -> Distance:
    if machine.device.type == "cpu" and not (shutil.which("g++") or shutil.which("clang++")):
        raise UnavailableError("torch.compile needs a C++ compiler; there is none")
    if machine.device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise UnavailableError("torch.compile needs Triton; it is not installed")
    torch._dynamo.reset()
    return torch.compile(function, dynamic=False)


Implementation = Callable[[Task, Machine], Distance]

IMPLEMENTATIONS: dict[str, Implementation] = {
    BASELINE: geoopt_eager,
    "geoopt, torch.compile": geoopt_compiled,
    "HypLL": hypll,
    "geometry": asinh_form,
    "geometry, torch.compile": asinh_compiled,
    "kernels, torch": partial(kernels, backend="torch"),
    "kernels, numba": partial(kernels, backend="numba"),
    "kernels, triton": partial(kernels, backend="triton"),
}


# -------------------------------------------------------------------- measuring


def measure(
    task: Task,
    rows: Rows,
    limits: Limits,
    *,
    implementations: dict[str, Implementation] = IMPLEMENTATIONS,
    seconds: float = 1.0,
) -> dict[str, Times]:
    """Check all implementations, time the right ones side by side, add a row for each."""
    machine = rows.machine
    about: dict[str, Any] = {
        "task": task.name,
        "dtype": str(task.dtype).removeprefix("torch."),
        "dim": task.dim,
        "items": task.pairs,
    }
    x, y, weight = task.points(machine)
    expected = _reference_of(task, x, y, weight)
    functions: dict[str, Callable[[], object]] = {}
    errors, peaks = {}, {}
    for name, make in implementations.items():
        try:
            _refuse_what_does_not_fit(name, task, machine)
            call = _call(make(task, machine), task, x, y, weight)
            call()  # compiles, and fills caches
            with peak_memory(machine) as peak:
                found = call()
            errors[name] = check([_head(f, task) for f in found], expected, task.dtype)
        except WrongAnswerError as error:
            rows.add(**about, implementation=name, status=f"refused: {error}")
        except UnavailableError as error:
            rows.add(**about, implementation=name, status=f"not here: {error}")
        except (MemoryError, torch.OutOfMemoryError):
            rows.add(**about, implementation=name, status="out of memory")
        else:
            functions[name], peaks[name] = call, peak.bytes
    times = side_by_side(functions, machine, seconds=seconds) if functions else {}
    for name, each in times.items():
        rows.add(
            **about | {"implementation": name, "error": errors[name], "peak_bytes": peaks[name]},
            **timing(each, task.pairs),
            **vars(task.cost),
            **limits.share(task.cost, task.dtype, task.pairs / each.median),
            against=_ratio(times, name),
        )
    return times


def _ratio(times: dict[str, Times], name: str) -> float | None:
    """How many times faster than geoopt: the median over rounds, each beside its neighbour."""
    if BASELINE not in times or name == BASELINE:
        return None
    pairs = zip(times[BASELINE].rounds, times[name].rounds, strict=False)
    return Times([slow / fast for slow, fast in pairs]).median


def _call(
    distance: Distance, task: Task, x: Tensor, y: Tensor, weight: Tensor
) -> Callable[[], list[Tensor]]:
    if task.backward:
        return lambda: with_gradients(distance, x, y, weight)

    def forward() -> list[Tensor]:
        with torch.no_grad():
            return [distance(x, y)]

    return forward


CHECKED = 4096
"""Rows of each result that are compared with the reference, from the start."""


def _head(values: Tensor, task: Task) -> Tensor:
    return values[:CHECKED, :CHECKED] if _square(values, task) else values[:CHECKED]


def _square(values: Tensor, task: Task) -> bool:
    return task.kind == "all pairs" and values.shape == task.shape


def _reference_of(task: Task, x: Tensor, y: Tensor, weight: Tensor) -> list[Tensor]:
    """Distance of the first rows and, where asked for, the gradients of the first points."""
    if task.kind == "paired":
        x, y, weight = x[:CHECKED], y[:CHECKED], weight[:CHECKED]
        distance = reference
    else:
        distance = partial(all_pairs, reference)
    if not task.backward:
        return [distance(x[:CHECKED], y[:CHECKED])]
    if task.kind == "paired":
        return with_gradients(distance, x.double(), y.double(), weight.double())
    return _all_pairs_gradients(x.double(), y.double(), weight.double())


def _all_pairs_gradients(x: Tensor, y: Tensor, weight: Tensor) -> list[Tensor]:
    """As `with_gradients`, a few rows of x at a time: the reference makes [n, m, dim]."""
    step = max(1, 2**22 // y.numel())
    distance, by_x, by_y = [], [], torch.zeros_like(y)
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        d, dx, dy = with_gradients(partial(all_pairs, reference), x[part], y, weight[part])
        if start < CHECKED:
            distance.append(d[:, :CHECKED])
        by_x.append(dx)
        by_y += dy
    return [torch.cat(distance)[:CHECKED], torch.cat(by_x)[:CHECKED], by_y[:CHECKED]]


SPREADING = {BASELINE, "geoopt, torch.compile", "HypLL"}
"""All pairs in these libraries are points [n, 1, dim] against [m, dim]."""


def _refuse_what_does_not_fit(name: str, task: Task, machine: Machine) -> None:
    """A dozen arrays of pairs are alive at a time, each of vectors where a library spreads them."""
    spread = task.kind == "paired" or name in SPREADING
    needed = 12 * task.pairs * (task.dim if spread else 1) * task.dtype.itemsize
    if needed > 0.7 * machine.memory:
        raise UnavailableError(f"may need {needed / 2**30:.0f} GiB")
