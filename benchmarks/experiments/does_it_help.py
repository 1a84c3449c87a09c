"""Do taxa help to predict a trait, and do vectors help where taxa do?

Whole genera or families are held out, in folds of several partitions. A table has R² with an
interval by a bootstrap of the groups, and the difference to the exact model of the tree with its
own, from the same draws.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from joblib import Parallel, delayed
from sklearn.model_selection import GroupKFold

import poincare_taxa as pt
from benchmarks.experiments.taxon_models import Data, methods, walks
from poincare_taxa.readers.sample import load_traits

SHARED = Path(os.environ.get("POINCARE_TAXA_DATA", "../shared/data"), "traits")
DRAWS = 2000
SMALL = 5000  # Taxa up to which all pairs are compared.


@dataclass(frozen=True)
class Trait:
    """A trait of a file, and the covariates that it is given; logarithms to base 10 of both."""

    file: str
    column: str
    name: str
    covariate: str | None = None

    @property
    def page(self) -> str:
        """Name of its table."""
        return f"{self.file}_{self.column}" + ("" if self.covariate is None else "_given_mass")


TRAITS = (
    Trait("mammals", "body_mass_g", "body mass of mammals"),
    Trait("animals", "metabolic_rate_w", "metabolic rate of animals, given the mass", "mass_kg"),
    Trait("animals", "brain_kg", "brain mass of animals, given the mass", "mass_kg"),
)


class AbsentError(Exception):
    """Data that are not on this machine; the message says which and where they would be."""


def table_of(file: str) -> tuple[pt.Taxonomy, pl.DataFrame]:
    """Taxonomy and traits of a file: shipped ones, else from the folder of shared data."""
    if file == "animals":
        return pt.load_sample("animals"), load_traits()
    path = SHARED / f"{file}.csv.gz"
    if not path.exists():
        raise AbsentError(f"{path} is not there (its licence is not settled, so it is not shipped)")
    table = pl.read_csv(path, infer_schema_length=None)
    return pt.load_sample(file), table


def load(trait: Trait, dim: int = 10) -> Data:
    """Taxa that have the trait, below one taxon of a lineage of the taxonomy."""
    tax, table = table_of(trait.file)
    wanted = [trait.column, *([] if trait.covariate is None else [trait.covariate])]
    table = table.drop_nulls(wanted)
    known = tax.rows(table["taxid"], missing=-1) >= 0
    table = table.filter(pl.Series(known)).unique("taxid", maintain_order=True)
    values = np.log10(table.select(wanted).to_numpy().astype(np.float64))
    covariates = values[:, 1:]
    covariates = (covariates - covariates.mean(axis=0)) / covariates.std(axis=0)
    model = pt.embed(tax, dim=dim)
    return Data(model, table["taxid"], values[:, 0], covariates)


def groups_of(data: Data, taxon_rank: str) -> np.ndarray:
    """Row of each taxon's clade of a rank; a taxon without one is a group by itself."""
    tree = data.tax.tree
    above = tree.nearest_marked(data.tax.has_rank(taxon_rank))[data.rows]
    return np.where(above >= 0, above, data.rows)


def held_out(data: Data, groups: np.ndarray, seed: int, names: list[str]) -> np.ndarray:
    """Predictions [methods, n] for every taxon, while its group is held out: one partition."""
    every = methods(covariate=data.covariates.shape[1] > 0, small=len(data.y) <= SMALL)
    found = np.empty((len(names), len(data.y)))
    folds = GroupKFold(5, shuffle=True, random_state=seed)
    for train, test in folds.split(data.y, groups=groups):
        for number, name in enumerate(names):
            found[number, test] = every[name](data, train, test, groups)
        for key in [key for key in data.kept if isinstance(key, tuple)]:
            del data.kept[key]  # features of this fold
    return found


def bootstrap(y: np.ndarray, found: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """R² [methods, 1 + draws] of predictions [partitions, methods, n]: all groups, then draws."""
    clades, place = np.unique(groups, return_inverse=True)
    rng, n = np.random.default_rng(0), len(clades)
    weights = np.vstack((np.ones(n), rng.multinomial(n, np.full(n, 1 / n), size=DRAWS)))
    error = ((found - y) ** 2).mean(axis=0)
    of_groups = np.stack([np.bincount(place, e, minlength=n) for e in error])
    count, total, square = (np.bincount(place, v, minlength=n) for v in (y**0, y, y**2))
    spread = weights @ square - (weights @ total) ** 2 / (weights @ count)
    return 1 - of_groups @ weights.T / spread


def measure(trait: Trait, partitions: int, jobs: int) -> Iterator[dict[str, Any]]:
    """Rows of one trait: every method, with genera and with families held out."""
    data = load(trait)
    names = list(methods(covariate=trait.covariate is not None, small=len(data.y) <= SMALL))
    ranks = ("genus", "family")
    groups = {rank: groups_of(data, rank) for rank in ranks}
    tasks = [(rank, seed) for rank in ranks for seed in range(partitions)]
    if "node2vec 32-D → LightGBM" in names:
        walks(data, np.arange(0))  # once for all processes: walks see no trait and no fold
    pool = Parallel(n_jobs=jobs, inner_max_num_threads=1) if jobs > 1 else Parallel(n_jobs=1)
    done = pool(delayed(held_out)(data, groups[rank], seed, names) for rank, seed in tasks)
    for rank in ranks:
        found = np.stack([f for (r, _), f in zip(tasks, done, strict=True) if r == rank])
        scores = bootstrap(data.y, found, groups[rank])
        below = scores - scores[0]
        for name, score, difference in zip(names, scores, below, strict=True):
            yield {
                "trait": trait.name,
                "taxa": len(data.y),
                "held out": rank,
                "groups": len(np.unique(groups[rank])),
                "features → model": name,
                "R²": score[0],
                "R² low": np.quantile(score[1:], 0.025),
                "R² high": np.quantile(score[1:], 0.975),
                "to the tree": difference[0],
                "to the tree low": np.quantile(difference[1:], 0.025),
                "to the tree high": np.quantile(difference[1:], 0.975),
            }


def readable(rows: list[dict[str, Any]], trait: str) -> list[dict[str, Any]]:
    """One line for each method of a trait: R² and difference to the tree, genera and families."""
    rows = [row for row in rows if row["trait"] == trait]
    names = list(dict.fromkeys(row["features → model"] for row in rows))
    lines = []
    for name in names:
        line: dict[str, Any] = {"features → model": name}
        for row in rows:
            if row["features → model"] == name:
                rank = row["held out"]
                line[f"R², {rank} held out"] = (
                    f"{row['R²']:.3f} ({row['R² low']:.3f}…{row['R² high']:.3f})"
                )
                line[f"less the tree, {rank}"] = (
                    "–"
                    if name == names[0]
                    else f"{row['to the tree']:+.3f} ({row['to the tree low']:+.3f}…"
                    f"{row['to the tree high']:+.3f})"
                )
        lines.append(line)
    return sorted(lines, key=lambda line: -float(line["R², genus held out"].split()[0]))
