"""Hypothesis strategies for points of hyperbolic space; ugly values are the normal ones."""

import torch
from hypothesis import strategies as st

from poincare_taxa.geometry import convert

dtypes = st.sampled_from([torch.float32, torch.float64])
curvatures = st.floats(0.1, 10.0)

# Components of every size: 0, or ± 10^e.
_components = st.one_of(
    st.just(0.0),
    st.builds(lambda sign, e: sign * 10.0**e, st.sampled_from([-1, 1]), st.floats(-18, 0)),
)


def radii(largest):
    """0, or between 1e-18 and 1 times the largest; small ones as often as large ones."""
    return st.one_of(
        st.sampled_from([0.0, min(1.0, largest), largest]),
        st.floats(1e-18 * largest, largest),
        st.builds(lambda e: largest * 10.0**e, st.floats(-18, 0)),
    )


def directions(dim, dtype):
    return st.lists(_components, min_size=dim, max_size=dim).map(lambda u: _unit(u, dtype))


@st.composite
def polar_points(draw, count, largest, dtype=None, dim=None):
    """(r [count], u [count, dim]); points may coincide or nearly so, or share a ray or a radius."""
    dtype = draw(dtypes) if dtype is None else dtype
    dim = draw(st.integers(2, 6)) if dim is None else dim
    r = [draw(radii(largest))]
    u = [draw(directions(dim, dtype))]
    for _ in range(count - 1):
        beside = min(largest, r[0] * (1 + 10.0 ** draw(st.floats(-15, -3))))
        r.append(draw(st.one_of(st.sampled_from([r[0], beside]), radii(largest))))
        kind = draw(st.sampled_from(["same", "near", "any", "any"]))
        if kind == "same":
            u.append(u[0])
        elif kind == "near":
            step = torch.tensor(draw(st.lists(_components, min_size=dim, max_size=dim)))
            size = 10.0 ** draw(st.floats(-12, -3))
            u.append(_stored((u[0].double() + size * step.double()).to(dtype)))
        else:
            u.append(draw(directions(dim, dtype)))
    return torch.tensor(r, dtype=dtype), torch.stack(u)


@st.composite
def ball_points(draw, count, largest, dtype=None, dim=None, c=1.0):
    """[count, dim] points of the ball of curvature -c up to a radius (that of curvature -1)."""
    r, u = draw(polar_points(count, largest, dtype, dim))
    return convert.polar_to_ball(r.double(), u.double(), c=c, dtype=u.dtype)


@st.composite
def rotations(draw, dim):
    """An orthogonal matrix in float64."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64, generator=generator))[0]


def _unit(components, dtype):
    u = torch.tensor(components, dtype=torch.float64)
    if u.norm() < 1e-3:
        u[0] = 1.0
    return _stored((u / u.norm()).to(dtype))


def _stored(u):
    """A direction as the library stores one: renormalised only where it must be."""
    square = u.double().square().sum().item()
    return u if abs(square - 1) <= 16 * torch.finfo(u.dtype).eps else u / u.norm()
