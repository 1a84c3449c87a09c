"""Ways to predict a trait from a taxon: features of vectors, of the exact tree, and others.

Each is a function of (data, train, test, groups) that returns predictions for the places `test`.
Features see no trait. What is chosen (penalties, shrinkage, numbers of neighbours and of trees) is
chosen on training taxa alone, with whole groups of them held out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, GroupShuffleSplit

import poincare_taxa as pt

PENALTIES = np.logspace(-1, 4, 8)
SHRINKAGES = np.array([0.1, 0.3, 1.0, 3.0, 10.0, 30.0])
NEIGHBOURS = (1, 2, 3, 5, 10, 20)
RANKS = ("order", "suborder", "superfamily", "family", "subfamily", "tribe", "genus")
COVARIATE = 10.0  # Factor of a standardised covariate: the penalty hardly shrinks its coefficient.
INNER = 4  # Folds by which a penalty is chosen.


@dataclass(frozen=True, eq=False)
class Data:
    """Taxa with a trait.

    Attributes
    ----------
    model, keys, y
        The embedding, ids of n taxa and their trait.
    covariates
        [n, c], standardised; c may be 0.
    """

    model: pt.TaxonEmbedding
    keys: pl.Series
    y: np.ndarray
    covariates: np.ndarray
    kept: dict[Any, Any] = field(default_factory=dict)
    """What does not depend on a fold, and what the last fold computed."""

    @property
    def tax(self) -> pt.Taxonomy:
        return self.model.taxonomy

    @cached_property
    def rows(self) -> np.ndarray:
        return self.tax.rows(self.keys)

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        """Compute a value once."""
        if key not in self.kept:
            self.kept[key] = compute()
        return self.kept[key]


Predict = Callable[[Data, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
Features = Callable[[Data, np.ndarray], Any]


def chosen(path: Callable[..., np.ndarray]) -> Predict:
    """Predictions of the setting that is best on held-out groups of the training taxa.

    ``path(data, train, test)`` returns predictions [settings, test].
    """

    def predict(data: Data, train: np.ndarray, test: np.ndarray, groups: np.ndarray) -> np.ndarray:
        inner = GroupKFold(INNER, shuffle=True, random_state=0)
        errors = 0.0
        for fit, held in inner.split(train, groups=groups[train]):
            found = path(data, train[fit], train[held], train)
            errors = errors + ((found - data.y[train[held]]) ** 2).sum(axis=1)
        return path(data, train, test, train)[np.argmin(errors)]

    return predict


# ---------------------------------------------------------------- linear models


def ridge(features: Features, *, scale: bool = False) -> Predict:
    """Ridge regression of features, which are computed once for the training taxa of a fold."""

    def path(data: Data, train: np.ndarray, test: np.ndarray, outer: np.ndarray) -> np.ndarray:
        x = data.once(("features", features, outer.tobytes()), lambda: features(data, outer))
        if sparse.issparse(x):
            x = sparse.hstack([x, COVARIATE * data.covariates]).tocsr()
            models = (Ridge(a, solver="sparse_cg") for a in PENALTIES)
            return np.array([m.fit(x[train], data.y[train]).predict(x[test]) for m in models])
        if scale:
            x = (x - x[train].mean(axis=0)) / np.maximum(x[train].std(axis=0), 1e-12)
        x = np.column_stack((x, COVARIATE * data.covariates))
        mean, level = x[train].mean(axis=0), data.y[train].mean()
        values, vectors = np.linalg.eigh((x[train] - mean).T @ (x[train] - mean))
        along = vectors.T @ ((x[train] - mean).T @ (data.y[train] - level))
        coefficients = vectors @ (along[:, None] / (np.maximum(values, 0)[:, None] + PENALTIES))
        return level + ((x[test] - mean) @ coefficients).T

    return chosen(path)


def taxon_features(output: str, num: int = 256) -> Features:
    """`TaxonFeatures` whose landmarks are training taxa."""

    def features(data: Data, train: np.ndarray) -> np.ndarray:
        transformer = pt.TaxonFeatures(data.model, num, output=output)
        return transformer.fit(data.keys.gather(train)).transform(data.keys)

    return features


def ancestors(data: Data, train: np.ndarray) -> Any:
    """Columns of the ancestor matrix that training taxa have."""
    matrix = data.once("ancestors", lambda: pt.ancestor_matrix(data.tax, data.keys).tocsc())
    used = np.diff(matrix[train].tocsc().indptr) > 0
    return matrix[:, used].tocsr()


def eigenvectors(data: Data, train: np.ndarray) -> np.ndarray:
    """128 eigenvectors of the kernel of the tree, over all taxa with data."""
    matrix = pt.ancestor_matrix(data.tax, data.keys)
    svd = TruncatedSVD(min(128, len(data.y) - 1), random_state=0)
    return data.once("eigenvectors", lambda: svd.fit_transform(matrix))


def tangent(data: Data, train: np.ndarray) -> np.ndarray:
    """The coordinates of ``model[key]``."""
    return data.model[data.keys].numpy()


def polar(data: Data, train: np.ndarray) -> np.ndarray:
    """Radius and direction."""
    model, rows = data.model, data.rows
    return np.column_stack((model.radius[rows].numpy(), model.direction[rows].numpy()))


def random(data: Data, train: np.ndarray) -> np.ndarray:
    """256 random numbers for each taxon."""
    return np.random.default_rng(0).normal(size=(len(data.y), 256))


def nothing(data: Data, train: np.ndarray) -> np.ndarray:
    """No features: the mean, or the covariates alone."""
    return np.empty((len(data.y), 0))


def rank_codes(data: Data) -> np.ndarray:
    """Row of each taxon's ancestor at each of `RANKS`, −1 without one: [n, ranks]."""
    present = set(data.tax.taxon_ranks.unique().cast(pl.String))
    tree, tax = data.tax.tree, data.tax
    found = [tree.nearest_marked(tax.has_rank(rank)) for rank in RANKS if rank in present]
    return np.column_stack([marked[data.rows] for marked in found])


def one_hot(data: Data, train: np.ndarray) -> Any:
    """A column for each clade of a rank."""
    codes = rank_codes(data)
    columns = []
    for column in codes.T:
        clades, place = np.unique(column, return_inverse=True)
        cells = sparse.csr_array(
            (np.ones(len(place)), (np.arange(len(place)), place)),
            shape=(len(place), len(clades)),
        )
        columns.append(cells[:, np.flatnonzero(clades >= 0)])
    return sparse.hstack(columns).tocsr()


# ---------------------------------------------------------------- means of relatives


@chosen
def clade_means(data: Data, train: np.ndarray, test: np.ndarray, outer: np.ndarray) -> np.ndarray:
    """Mean of the smallest clade with data, each clade's shrunk towards that of its parent."""
    tree = data.tax.tree
    above = pt.ancestor_matrix(data.tax, data.keys.gather(train))
    count = above.sum(axis=0)
    total = above.T @ data.y[train]
    mean = np.full((len(tree), len(SHRINKAGES)), data.y[train].mean())
    with_data = np.flatnonzero(count)
    for depth in range(1, tree.max_depth + 1):
        v = with_data[tree.depth[with_data] == depth]
        shrunk = total[v, None] + SHRINKAGES * mean[tree.parent[v]]
        mean[v] = shrunk / (count[v, None] + SHRINKAGES)
    return mean[tree.nearest_marked(count > 0)[data.rows[test]]].T


@chosen
def nearest_levels(
    data: Data, train: np.ndarray, test: np.ndarray, outer: np.ndarray
) -> np.ndarray:
    """Mean of the nearest taxa of the tree, all of a level."""
    apart = data.once("apart", lambda: data.tax.distance_matrix(data.keys))[np.ix_(test, train)]
    weights = [pt.features.neighbour_weights(apart, k) for k in NEIGHBOURS]
    return np.array([w @ data.y[train] for w in weights])


# ---------------------------------------------------------------- trees of decisions


def boosted(features: Features, *, categories: bool = False) -> Predict:
    """LightGBM; the number of trees is chosen on held-out groups."""
    import lightgbm

    settings = {
        "learning_rate": 0.1,
        "num_leaves": 31,
        "min_child_samples": 10,
        "num_threads": 1,
        "seed": 0,
        "verbosity": -1,
        "objective": "regression",
    }

    def predict(data: Data, train: np.ndarray, test: np.ndarray, groups: np.ndarray) -> np.ndarray:
        x = np.asarray(features(data, train), np.float64)
        named = list(range(x.shape[1])) if categories else []
        x = np.column_stack((x, data.covariates))

        def table(at: np.ndarray) -> Any:
            return lightgbm.Dataset(x[at], data.y[at], categorical_feature=named)

        split = GroupShuffleSplit(1, test_size=0.2, random_state=0)
        fit, held = next(split.split(train, groups=groups[train]))
        stop = lightgbm.early_stopping(20, verbose=False)
        first = lightgbm.train(
            settings, table(train[fit]), 500, [table(train[held])], callbacks=[stop]
        )
        best = lightgbm.train(settings, table(train), max(first.best_iteration, 1))
        return np.asarray(best.predict(x[test]))

    return predict


def rank_categories(data: Data, train: np.ndarray) -> np.ndarray:
    """Codes of the clades of each rank."""
    codes = rank_codes(data)
    return np.column_stack([np.unique(column, return_inverse=True)[1] for column in codes.T])


def walks(data: Data, train: np.ndarray) -> np.ndarray:
    """node2vec with its defaults (p = q = 1, 10 walks of 80 steps, window 10), in 32 dimensions.

    Over the taxa with data and their ancestors: walks through relatives without data teach nothing
    about those with data, and R² is half as large with them.
    """

    def compute() -> np.ndarray:
        from gensim.models import Word2Vec

        tax, rng = data.tax.prune(data.keys), np.random.default_rng(0)
        tree = tax.tree
        # Neighbours of a row: its children, then its parent.
        degree = tree.num_children + (tree.parent >= 0)
        here = np.tile(np.arange(len(tree)), 10)
        steps = [here]
        for _ in range(79):
            pick = (rng.random(len(here)) * degree[here]).astype(np.int64)
            child = np.minimum(tree.first_child[here] + pick, len(tree) - 1)
            up = pick == tree.num_children[here]
            here = np.where(up, tree.parent[here], tree.by_parent[child])
            steps.append(here)
        sentences = np.stack(steps, axis=1).astype(str)[rng.permutation(len(here))].tolist()
        settings = {"vector_size": 32, "window": 10, "sg": 1, "negative": 5, "min_count": 1}
        found = Word2Vec(sentences, workers=1, seed=0, epochs=1, **settings).wv
        return np.stack([found[str(row)] for row in tax.rows(data.keys)])

    return data.once("walks", compute)


def methods(*, covariate: bool, small: bool) -> dict[str, Predict]:
    """Return every way by its name, the exact tree model first; means take no covariate.

    Ways whose libraries are not installed are left out.
    """
    found: dict[str, Predict] = {
        "ancestor matrix → ridge (the tree's Gaussian process)": ridge(ancestors),
        "TaxonFeatures(256) → ridge": ridge(taxon_features("shared_depth")),
        'TaxonFeatures(256, output="kernel") → ridge': ridge(taxon_features("kernel")),
        "TaxonFeatures(32) → ridge": ridge(taxon_features("shared_depth", 32)),
        "128 eigenvectors of the tree → ridge": ridge(eigenvectors),
        "one-hot ranks → ridge": ridge(one_hot),
        "coordinates model[key] → ridge": ridge(tangent, scale=True),
        "256 random numbers → ridge": ridge(random),
    }
    if find_spec("lightgbm"):
        found["rank categories → LightGBM"] = boosted(rank_categories, categories=True)
        found["radius, direction → LightGBM"] = boosted(polar)
    if find_spec("lightgbm") and find_spec("gensim"):
        found["node2vec 32-D → LightGBM"] = boosted(walks)
    if covariate:
        return found | {"the covariate alone → ridge": ridge(nothing)}
    found |= {"shrunk mean of the smallest clade with data": clade_means}
    return found | ({"nearest taxa by whole levels": nearest_levels} if small else {})
