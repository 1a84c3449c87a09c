"""Distances to 60 digits with mpmath, from the definitions, of the coordinates as stored."""

import mpmath

mpmath.mp.dps = 60


def polar_distance(r1, u1, r2, u2):
    """The law of haversines. Arguments: numbers and lists of numbers."""
    r1, r2 = mpmath.mpf(r1), mpmath.mpf(r2)
    square = _square_distance(u1, u2)
    angular = mpmath.sinh(r1) * mpmath.sinh(r2) * square / 4
    return 2 * mpmath.asinh(mpmath.sqrt(mpmath.sinh((r1 - r2) / 2) ** 2 + angular))


def busemann(r, u, ideal):
    """log(e^-r + 2 sinh r |u - ideal|²/4)."""
    r, square = mpmath.mpf(r), _square_distance(u, ideal)
    return mpmath.log(mpmath.exp(-r) + mpmath.sinh(r) * square / 2)


def ball_distance(x, y, c=1.0):
    """Nickel & Kiela 2017, equation 1, as printed: arcosh."""
    c = mpmath.mpf(c)
    zero = [0.0] * len(x)
    gaps = (1 - c * _square_distance(x, zero)) * (1 - c * _square_distance(y, zero))
    return mpmath.acosh(1 + 2 * c * _square_distance(x, y) / gaps) / mpmath.sqrt(c)


def lorentz_distance(x, y, c=1.0):
    """arcosh of minus the Lorentz product; time is computed from space."""
    c = mpmath.mpf(c)
    space = sum(mpmath.mpf(a) * mpmath.mpf(b) for a, b in zip(x[1:], y[1:], strict=True))
    zero = [0.0] * (len(x) - 1)
    time_x = mpmath.sqrt(1 / c + _square_distance(x[1:], zero))
    time_y = mpmath.sqrt(1 / c + _square_distance(y[1:], zero))
    return mpmath.acosh(c * (time_x * time_y - space)) / mpmath.sqrt(c)


def _square_distance(x, y):
    return sum((mpmath.mpf(a) - mpmath.mpf(b)) ** 2 for a, b in zip(x, y, strict=True))


def midpoint(r, u, weights):
    """Radius and direction of the normalised sum on the hyperboloid, with digits for e^{2r}."""
    with mpmath.workdps(60 + int(max(r))):
        points = [(mpmath.mpf(a), *map(mpmath.mpf, b)) for a, b in zip(r, u, strict=True)]
        space = [
            sum(
                mpmath.mpf(w) * mpmath.sinh(x[0]) * x[i]
                for w, x in zip(weights, points, strict=True)
            )
            for i in range(1, len(points[0]))
        ]
        # Σ wᵢwⱼ cosh d(xᵢ, xⱼ) of the coordinates as they are stored
        square = sum(
            mpmath.mpf(v) * mpmath.mpf(w) * mpmath.cosh(polar_distance(a[0], a[1:], b[0], b[1:]))
            for v, a in zip(weights, points, strict=True)
            for w, b in zip(weights, points, strict=True)
        )
        length = mpmath.sqrt(sum(x * x for x in space))
        if length == 0:
            return mpmath.mpf(0), [1.0] + [0.0] * (len(space) - 1)
        return mpmath.asinh(length / mpmath.sqrt(square)), [x / length for x in space]
