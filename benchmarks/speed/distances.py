"""Distances: paired and all pairs, forward and forward with backward, in several libraries.

Each implementation gets the same points and has to return the distance, and in the backward pass
the gradient of a weighted sum of distances, that plain float64 arithmetic gives (the reference
below is written from the formula, on its own). What is wrong by more than the tolerance is refused:
it gets a row that says so, and no time.
"""

import importlib.util
import math
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
    LeftOutError,
    Limits,
    Machine,
    Rows,
    Times,
    UnavailableError,
    WrongAnswerError,
    expected_seconds,
    peak_memory,
    refuse_interpreter,
    side_by_side,
    timing,
)
from poincare_taxa.files.records import dtype_name

Distance = Callable[[Tensor, Tensor], Tensor]
"""Tables of points to distances: [n] of pairs, [n, m] of all pairs."""

LARGEST_NORM = 0.95
"""Of points of the ball: radius 3.7. Further out float32 is noise, whoever computes in it."""

LARGEST_RADIUS = 20.0
"""Of points in polar coordinates, which keep their digits out there."""

TOLERANCE = {torch.float32: 2e-3, torch.float64: 1e-8}
"""Largest error against the reference, relative to the largest entry. Wide enough for every formula
in use (artanh of a norm near 1 loses eps·e^d), narrow enough that a slip in one shows."""

BLOCK = {"cpu": 10**7, "cuda": 10**9}
"""Coordinates that a side of a task holds at once; larger tasks go through one block at a time."""

BASELINE = {"ball": "geoopt, eager", "polar": "kernels, torch"}
"""What the others are compared with."""

HELD = 4 * 10**7
"""Coordinates that a side holds of several blocks; of more blocks, these come round again."""


# -------------------------------------------------------------------- reference


def reference(x: Tensor, y: Tensor) -> Tensor:
    """Distance in the ball from its definition: arcosh(1 + 2|x−y|²/((1−|x|²)(1−|y|²)))."""
    x, y = x.double(), y.double()
    gaps = (1 - x.square().sum(-1)) * (1 - y.square().sum(-1))
    t = 2 * (x - y).square().sum(-1) / gaps
    return torch.log1p(t + torch.sqrt(t * (t + 2)))


def polar_reference(x: Tensor, y: Tensor) -> Tensor:
    """Distance by the law of cosines with |u−v|² for the angle; column 0 is the radius."""
    x, y = x.double(), y.double()
    r, s = x[..., 0], y[..., 0]
    apart = (x[..., 1:] - y[..., 1:]).square().sum(-1)
    t = torch.cosh(r - s) - 1 + torch.sinh(r) * torch.sinh(s) * apart / 2
    return torch.log1p(t + torch.sqrt(t * (t + 2)))


REFERENCE = {"ball": reference, "polar": polar_reference}


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
    manifold: str = "ball"  # or "polar"

    @property
    def name(self) -> str:
        direction = f"forward{' + backward' if self.backward else ''}"
        return f"{self.kind}, {direction}{', polar' if self.manifold == 'polar' else ''}"

    @property
    def columns(self) -> int:
        """Numbers that a point is."""
        return self.dim + (self.manifold == "polar")

    @property
    def shape(self) -> tuple[int, int]:
        """Points on both sides."""
        if self.kind == "paired":
            return self.pairs, self.pairs
        rows = max(1, round(self.pairs**0.5))
        return rows, max(1, self.pairs // rows)

    def blocks(self, machine: Machine) -> tuple[int, int]:
        """How many blocks the task is done in, and rows of x in each: all that is held at once.

        A library that spreads all pairs out holds the coordinates of each.
        """
        n, m = self.shape
        room = BLOCK[machine.device.type] // self.columns // (1 if self.kind == "paired" else m)
        count = math.ceil(n / max(1, room))
        return count, math.ceil(n / count)

    @property
    def cost(self) -> Cost:
        """Per pair: points read once in each pass, distances and gradients written once."""
        size = self.dtype.itemsize
        n, m = self.shape
        paired, polar = self.kind == "paired", self.manifold == "polar"
        points = (n + m) * self.columns * size / (n if paired else n * m)
        # Root and logarithm of each pair; of each point an exponential (polar).
        moved, flops, special = points + size, 3 * self.dim + 12, 3.0
        if paired:  # Norms, or sinh: once per point where all pairs are asked for.
            flops, special = flops + (8 if polar else 4 * self.dim), special + 2 * polar
        if self.backward:  # points and the gradient of the distance read, gradients written
            moved, flops, special = moved + 2 * points + size, 3 * flops, special + 1
        return Cost(moved, flops, special)

    def points(self, machine: Machine) -> tuple[Tensor, Tensor, Tensor]:
        """Points of both sides and the weights of their distances in a weighted sum."""
        generator = torch.Generator().manual_seed(0)
        (count, rows), m = self.blocks(machine), self.shape[1]
        if self.kind == "paired":
            m = n = rows * min(count, max(1, HELD // (rows * self.columns)))
            shape = (n,)
        else:
            n, shape = count * rows, (rows, m)
        x, y = (points(self, number, generator).to(machine.device) for number in (n, m))
        weight = torch.rand(shape, generator=generator, dtype=self.dtype)
        return x, y, weight.to(machine.device)


def points(task: Task, number: int, generator: torch.Generator) -> Tensor:
    """Random points of a task's manifold: [number, columns]."""
    x = torch.randn(number, task.dim, generator=generator)
    x = torch.nn.functional.normalize(x).to(task.dtype)
    reach = torch.rand(number, 1, generator=generator, dtype=task.dtype)
    if task.manifold == "polar":
        return torch.cat((LARGEST_RADIUS * reach, x), dim=1)
    return LARGEST_NORM * reach * x


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


def plain(task: Task, machine: Machine) -> Distance:
    """This library's geometry in plain torch."""
    from poincare_taxa.geometry import ball, polar

    if task.manifold == "ball":
        return ball.dist if task.kind == "paired" else ball.cdist
    distance = polar.dist if task.kind == "paired" else polar.cdist
    return lambda x, y: distance(x[:, 0], x[:, 1:], y[:, 0], y[:, 1:])


def plain_compiled(task: Task, machine: Machine) -> Distance:
    return _compiled(plain(task, machine), machine)


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
    """This library's distances as users call them ("auto"), or by one backend."""
    refuse_interpreter(backend)
    try:
        from poincare_taxa import kernels as fused
    except ImportError as error:
        raise UnavailableError(f"not built in ({error.name})") from None
    function: Any = fused.dist if task.kind == "paired" else fused.cdist
    one = torch.zeros(1, task.columns, device=machine.device, dtype=task.dtype)
    try:
        function(one, one, manifold=task.manifold, backend=backend)
    except (ImportError, ValueError) as error:
        raise UnavailableError(str(error)) from None
    return partial(function, manifold=task.manifold, backend=backend)


def _compiled(function: Distance, machine: Machine) -> Distance:
    if machine.device.type == "cpu" and not (shutil.which("g++") or shutil.which("clang++")):
        raise UnavailableError("torch.compile needs a C++ compiler; there is none")
    if machine.device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise UnavailableError("torch.compile needs Triton; it is not installed")
    torch._dynamo.reset()
    return torch.compile(function, dynamic=False)


Implementation = Callable[[Task, Machine], Distance]

IMPLEMENTATIONS: dict[str, Implementation] = {
    BASELINE["ball"]: geoopt_eager,
    "geoopt, torch.compile": geoopt_compiled,
    "HypLL": hypll,
    "plain torch, torch.compile": plain_compiled,
    BASELINE["polar"]: partial(kernels, backend="torch"),
    "pt.dist, pt.cdist": partial(kernels, backend="auto"),
    "kernels, numba": partial(kernels, backend="numba"),
    "kernels, triton": partial(kernels, backend="triton"),
}

OTHERS = {"geoopt, eager", "geoopt, torch.compile", "HypLL"}
"""Libraries that know the ball alone, and have all pairs of points [n, 1, dim] against [m, dim]."""


# -------------------------------------------------------------------- measuring


def measure(
    task: Task,
    rows: Rows,
    limits: Limits,
    *,
    implementations: dict[str, Implementation] = IMPLEMENTATIONS,
    seconds: float = 1.0,
    patience: float = 60.0,
) -> dict[str, Times]:
    """Check all implementations, time the right ones side by side, add a row for each.

    What took so long with fewer pairs that a call would now take longer than `patience` seconds is
    left out.
    """
    machine = rows.machine
    blocks, height = task.blocks(machine)
    pairs_at_once = height * (1 if task.kind == "paired" else task.shape[1])
    about: dict[str, Any] = {
        "task": task.name,
        "dtype": dtype_name(task.dtype),
        "dim": task.dim,
        "items": task.pairs,
        "blocks": blocks,
    }
    x, y, weight = task.points(machine)
    expected = _reference_of(task, height, x, y, weight)
    functions: dict[str, Callable[[], object]] = {}
    errors, peaks = {}, {}
    for name, make in implementations.items():
        if task.manifold == "polar" and name in OTHERS:
            continue
        with rows.unless_refused(about | {"implementation": name}):
            _refuse_what_does_not_fit(name, task, pairs_at_once, machine)
            _leave_out_what_takes_too_long(name, task, rows, patience)
            distance = make(task, machine)
            first = _call(distance, task, 1, height, x, y, weight)
            if "compile" in name:
                first()
            with peak_memory(machine) as peak:
                found = first()
            errors[name] = check(found, expected, task.dtype)
            functions[name] = _call(distance, task, blocks, height, x, y, weight)
            peaks[name] = peak.bytes
        found = None
    times = side_by_side(functions, machine, seconds=seconds) if functions else {}
    done = blocks * pairs_at_once
    for name, each in times.items():
        rows.add(
            **about | {"implementation": name, "error": errors[name], "peak_bytes": peaks[name]},
            **timing(each, done),
            **vars(task.cost),
            **limits.share(task.cost, task.dtype, done / each.median),
            against=ratio(times, name, BASELINE[task.manifold]),
        )
    return times


def ratio(times: dict[str, Times], name: str, baseline: str) -> float | None:
    """How many times faster: the median over rounds, each beside its neighbour."""
    if baseline not in times or name == baseline:
        return None
    pairs = zip(times[baseline].rounds, times[name].rounds, strict=False)
    return Times([slow / fast for slow, fast in pairs]).median


def _call(
    distance: Distance,
    task: Task,
    blocks: int,
    height: int,
    x: Tensor,
    y: Tensor,
    weight: Tensor,
) -> Callable[[], list[Tensor]]:
    """Do some blocks of a task, one after another; return what the last one gave."""
    paired = task.kind == "paired"

    def run() -> list[Tensor]:
        found = []
        for block in range(blocks):
            found.clear()  # Freed before the next one is made.
            start = block * height % len(x)
            at = slice(start, start + height)
            second, w = (y[at], weight[at]) if paired else (y, weight)
            if task.backward:
                found = with_gradients(distance, x[at], second, w)
            else:
                with torch.no_grad():
                    found = [distance(x[at], second)]
        return found

    return run


def _reference_of(task: Task, height: int, x: Tensor, y: Tensor, weight: Tensor) -> list[Tensor]:
    """Distance and, where asked for, gradients of the first block, a few rows of x at a time."""
    paired = task.kind == "paired"
    distance: Distance = REFERENCE[task.manifold]
    distance = distance if paired else partial(all_pairs, distance)
    step = max(1, 2**22 // (task.columns if paired else y.numel()))
    by_y = torch.zeros(height if paired else len(y), *y.shape[1:], dtype=torch.float64)
    by_y = by_y.to(y.device)
    parts = []
    for start in range(0, height, step):
        at = slice(start, min(start + step, height))
        second = y[at] if paired else y
        if not task.backward:
            parts.append([distance(x[at], second)])
            continue
        d, dx, dy = with_gradients(distance, x[at].double(), second.double(), weight[at].double())
        parts.append([d, dx])
        by_y[at if paired else slice(None)] += dy
    found = [torch.cat(each) for each in zip(*parts, strict=True)]
    return [*found, by_y] if task.backward else found


def _refuse_what_does_not_fit(name: str, task: Task, pairs: int, machine: Machine) -> None:
    """A dozen arrays of pairs are alive at a time, each of vectors where a library spreads them."""
    spread = task.kind == "paired" or name in OTHERS
    needed = 12 * pairs * (task.columns if spread else 1) * task.dtype.itemsize
    if needed > 0.7 * machine.memory:
        raise UnavailableError(f"may need {needed / 2**30:.0f} GiB")


def _leave_out_what_takes_too_long(name: str, task: Task, rows: Rows, patience: float) -> None:
    alike = {
        "task": task.name,
        "dtype": dtype_name(task.dtype),
        "dim": task.dim,
        "implementation": name,
    }
    wait = expected_seconds(rows, alike, task.pairs)
    if wait > patience:
        raise LeftOutError(f"a call would take about {wait:.0f} s")
