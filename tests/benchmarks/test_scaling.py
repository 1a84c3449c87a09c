"""The fit of the scaling law recovers what made its data."""

import pytest

from benchmarks.speed.scaling import fit_law, slope
from poincare_taxa.model.planning import EXACTLY, STEPS, Work, predict

SIZES = [1000, 10_000, 100_000, 1_000_000]


def measurements(seconds, memory, passes=(0,)):
    return [
        {
            "step": step,
            **work._asdict(),
            "seconds": seconds(*work),
            "memory": memory(work.taxa),
        }
        for step in (*STEPS, EXACTLY)
        for work in (Work(n, q, p) for n in SIZES for q in (100, 1000) for p in passes)
    ]


def test_fit_law__finds_the_costs_it_was_given():
    rows = measurements(lambda n, q, p: 0.2 + 3e-6 * n, lambda n: 1e8 + 500.0 * n)
    fitted = fit_law([row for row in rows if row["step"] != "refine"] + REFINED)
    for step in set(STEPS) - {"refine"}:
        assert predict(fitted, step, "seconds", Work(10**7, 1000)) == pytest.approx(30.2, rel=1e-6)
        assert predict(fitted, step, "memory", Work(10**7, 1000)) == pytest.approx(5.1e9, rel=1e-6)


def refining(n, q, p):
    """Seconds of p layouts and p + 1 measurements of q queries."""
    return 0.5 + p * 2e-6 * n + (p + 1) * q * (1e-3 + 4e-9 * n)


REFINED = [
    row for row in measurements(refining, lambda n: 1e8, (0, 1, 2)) if row["step"] == "refine"
]


def test_fit_law__tells_passes_from_taxa_and_queries():
    rows = measurements(refining, lambda n: 1e8, (0, 1, 2))
    work = Work(3_000_000, 256, 8)
    assert predict(fit_law(rows), "refine", "seconds", work) == pytest.approx(refining(*work))


def test_fit_law__tells_queries_from_taxa():
    rows = measurements(lambda n, q, p: 0.1 + 1e-6 * n + 4e-9 * n * q, lambda n: 1e8)
    found = predict(fit_law(rows), "evaluate", "seconds", Work(2_000_000, 2_000_000))
    assert found == pytest.approx(0.1 + 2 + 16_000, rel=1e-6)


def test_fit_law__finds_that_exact_evaluation_grows_less_than_with_the_square():
    rows = measurements(lambda n, q, p: 3 + 1e-6 * n + 2e-7 * n**1.5, lambda n: 1e8)
    found = predict(fit_law(rows), EXACTLY, "seconds", Work(2_000_000, 2_000_000))
    assert found == pytest.approx(3 + 2 + 2e-7 * 2e6**1.5, rel=1e-6)


def test_slope__is_that_of_a_power():
    assert slope(SIZES, [2 * n**1.3 for n in SIZES]) == pytest.approx(1.3)
