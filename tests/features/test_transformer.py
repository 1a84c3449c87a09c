"""`TaxonFeatures` as scikit-learn uses it."""

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from support.zoo import zoo

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

from poincare_taxa.features import landmarks
from poincare_taxa.features.transformer import TaxonFeatures
from poincare_taxa.model.model import embed
from poincare_taxa.readers.sample import load_sample
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError
from poincare_taxa.testing import synthetic_taxonomy

ANIMALS = [9606, 9598, 9597, 10090, 8782]


@pytest.fixture(scope="module")
def model():
    return embed(zoo(), dim=4)


# ------------------------------------------------------ scikit-learn's own checks


class OfNumbers(TaxonFeatures):
    """`TaxonFeatures` of the taxon to which the first of some numbers leads.

    scikit-learn checks estimators with random numbers, which are no keys; everything else of the
    transformer is as it is.
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        for kind in ("string", "categorical", "one_d_array"):
            setattr(tags.input_tags, kind, False)
        return tags

    def fit(self, X, y=None):
        X = validate_data(self, X, dtype=np.float64)
        super().fit(self._ids(X))
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        check_is_fitted(self)
        return super().transform(self._ids(validate_data(self, X, dtype=np.float64, reset=False)))

    def _rows(self, X, *, reset):
        return self.model.taxonomy.rows(X)

    def _ids(self, X):
        ids = self.model.taxonomy.ids
        return ids.gather((np.abs(1000 * X[:, 0]) % len(ids)).astype(int))


EXPECTED = {
    "check_estimators_overwrite_params": "an embedding keeps the indexes of its first look-up",
}


@parametrize_with_checks(
    [
        OfNumbers(embed(synthetic_taxonomy(300), dim=4), output=output)
        for output in ("shared_depth", "kernel")
    ],
    expected_failed_checks=lambda estimator: EXPECTED,
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_clone__shares_the_embedding(model):
    features = TaxonFeatures(model, 7, output="kernel", missing="ancestor", lineages=zoo())
    copy = clone(features)
    assert copy is not features
    assert copy.model is model
    assert copy.lineages is features.lineages
    assert copy.get_params() == features.get_params()
    assert clone(make_pipeline(features, Ridge()))[0].model is model


# ------------------------------------------------------ keys


@pytest.mark.parametrize(
    "keys",
    [
        tuple(ANIMALS),
        np.array(ANIMALS),
        np.array(ANIMALS)[:, None],
        [[key] for key in ANIMALS],
        np.array(ANIMALS, dtype=str)[:, None],
        ["Homo sapiens", "Pan troglodytes", "9597", 10090, "Aves"],
        np.array(["human", 9598, "Pan paniscus", 10090, "Aves"], object)[:, None],
        pl.Series(ANIMALS),
        pl.DataFrame({"taxon": ANIMALS}),
        pd.Series(ANIMALS, index=list("vwxyz")),
        pd.DataFrame({"taxon": ["Homo sapiens", *map(str, ANIMALS[1:])]}),
        torch.tensor(ANIMALS),
    ],
    ids=lambda keys: type(keys).__name__,
)
def test_transform__takes_lists_arrays_and_one_column(model, keys):
    expected = TaxonFeatures(model).fit(ANIMALS)
    found = TaxonFeatures(model).fit(keys)
    np.testing.assert_array_equal(found.transform(keys), expected.transform(ANIMALS))
    assert found.landmark_ids_.tolist() == expected.landmark_ids_.tolist()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (9606, r"write \[9606\]"),
        ("Homo sapiens", "X is many keys"),
        (pd.DataFrame({"a": [9606], "b": [1.0]}), "has 2: select it"),
        (np.array([[9606, 9598]]), "has 2"),
    ],
)
def test_fit__refuses_what_is_not_one_column(model, keys, message):
    with pytest.raises(ValueError, match=message):
        TaxonFeatures(model).fit(keys)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"output": "depth"}, ValueError, "'shared_depth' or 'kernel'; got 'depth'"),
        ({"num_features": 0}, ValueError, "at least 1"),
        ({"missing": "drop"}, ValueError, "and not their targets"),
        ({"missing": "skip"}, ValueError, "got 'skip'"),
        ({"lineages": zoo()}, ValueError, "missing='ancestor'"),
        ({"model": zoo()}, TypeError, "TaxonEmbedding.*got Taxonomy"),
    ],
)
def test_fit__refuses_parameters_without_a_meaning(model, parameters, error, message):
    features = TaxonFeatures(model).set_params(**parameters)
    with pytest.raises(error, match=message):
        features.fit(ANIMALS)


def test_transform__before_fit_is_an_error(model):
    for call in (lambda f: f.transform(ANIMALS), lambda f: f.get_feature_names_out()):
        with pytest.raises(NotFittedError):
            call(TaxonFeatures(model))


def test_missing__keys_are_errors_marks_or_their_ancestors(model):
    features = TaxonFeatures(model).fit(ANIMALS)
    with pytest.raises(TaxonomyError, match="12345 is unknown"):
        features.transform([9606, 12345])
    expected = features.transform([9606, 9605])

    found = features.set_params(missing="nan").transform([9606, 12345])
    np.testing.assert_array_equal(found[0], expected[0])
    assert np.isnan(found[1]).all()
    again = TaxonFeatures(model, missing="nan").fit([12345, *ANIMALS])
    np.testing.assert_array_equal(again.transform([9606])[0], expected[0])
    with pytest.raises(ValueError, match="no key of X leads to a taxon"):
        again.fit([12345])

    newer = Taxonomy.from_frame(
        pl.concat(
            [
                zoo().to_frame().cast({"taxon_rank": pl.String}),
                pl.DataFrame({"id": [12345], "parent": [9605], "name": "H. x", "taxon_rank": ""}),
            ]
        )
    )
    features.set_params(missing="ancestor", lineages=newer)
    np.testing.assert_array_equal(features.transform([9606, 12345]), expected)


# ------------------------------------------------------ features


@pytest.mark.parametrize("output", ["shared_depth", "kernel"])
def test_transform__columns_are_those_of_landmarks_of_different_training_taxa(model, output):
    features = TaxonFeatures(model, output=output).fit(ANIMALS * 3)
    rows = model.taxonomy.rows(sorted(ANIMALS, key=lambda key: model.taxonomy.rows(key)))
    chosen = landmarks.choose_landmarks(model.radius[rows], model.direction[rows], 256)
    compute = {"shared_depth": landmarks.shared_depth, "kernel": landmarks.kernel_coordinates}
    wanted = compute[output](model.radius, model.direction, chosen)
    np.testing.assert_array_equal(features.transform(model.taxonomy.ids), wanted)
    assert (
        features.landmark_ids_.tolist() == model.taxonomy.ids.gather(rows[chosen.place]).to_list()
    )
    names = [f"{output}_{key}" for key in features.landmark_ids_]
    assert features.get_feature_names_out().tolist() == names
    assert TaxonFeatures(model, 2, output=output).fit(ANIMALS).transform([1]).shape == (1, 2)


def test_fit__of_more_taxa_than_candidates_takes_evenly_spaced_ones(monkeypatch):
    monkeypatch.setattr("poincare_taxa.features.transformer._MOST_CANDIDATES", 20)
    model = embed(synthetic_taxonomy(300), dim=4)
    features = TaxonFeatures(model).fit(model.taxonomy.ids)
    rows = np.sort(model.taxonomy.rows(features.landmark_ids_))
    assert set(rows) <= set(np.linspace(0, 299, 20).astype(int))
    assert len(rows) == 19  # the root, at the origin, explains nothing


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_set_output__is_a_table_with_names(model, kind):
    features = TaxonFeatures(model, 3).set_output(transform=kind).fit(ANIMALS)
    table = features.transform(ANIMALS)
    assert list(table.columns) == features.get_feature_names_out().tolist()
    assert table.shape == (5, 3)


def test_set_output__keeps_the_index_of_a_table(model):
    frame = pd.DataFrame({"taxon": ANIMALS}, index=list("vwxyz"))
    features = TaxonFeatures(model, 3).set_output(transform="pandas").fit(frame)
    assert features.transform(frame).index.tolist() == list("vwxyz")
    assert features.feature_names_in_.tolist() == ["taxon"]


def test_transform__takes_a_list_after_a_table_and_a_table_after_a_list(model):
    table, other = pl.DataFrame({"taxon": ANIMALS}), pl.DataFrame({"other": ANIMALS})
    of_table, of_list = TaxonFeatures(model).fit(table), TaxonFeatures(model).fit(ANIMALS)
    np.testing.assert_array_equal(of_table.transform(ANIMALS), of_list.transform(table))
    with pytest.raises(ValueError, match="feature names should match"):
        of_table.transform(other)


def test_column_transformer__pipeline_and_grid_search_work_together():
    tax = load_sample("mammals")
    model = embed(tax, dim=10)
    rng = np.random.default_rng(0)
    rows = rng.choice(len(tax), 300, replace=False)
    # A trait that a lineage passes on, and a covariate.
    steps = rng.normal(size=len(tax))
    trait = np.array([steps[above[above >= 0]].sum() for above in tax.tree.lineages(rows)])
    frame = pd.DataFrame({"taxon": tax.ids.gather(rows).to_numpy(), "x": rng.normal(size=300)})
    y = trait + 3 * frame["x"]
    columns = make_column_transformer(
        (TaxonFeatures(model), ["taxon"]), ("passthrough", ["x"]), verbose_feature_names_out=False
    )
    pipeline = make_pipeline(columns, Ridge())
    grid = {
        "columntransformer__taxonfeatures__num_features": [2, 64],
        "ridge__alpha": [1.0, 10.0],
    }
    search = GridSearchCV(pipeline, grid, cv=4).fit(frame, y)
    assert search.best_params_["columntransformer__taxonfeatures__num_features"] == 64
    mass_alone = make_pipeline(Ridge()).fit(frame[["x"]], y).score(frame[["x"]], y)
    assert search.best_score_ > mass_alone + 0.05
    best = search.best_estimator_
    assert best[0].named_transformers_["taxonfeatures"].model is model
    assert best[0].get_feature_names_out()[-1] == "x"
    again = pickle.loads(pickle.dumps(best))
    np.testing.assert_array_equal(again.predict(frame), best.predict(frame))


def test_constructor__without_the_extra_names_the_command():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import poincare_taxa as pt\n"
        "assert all(hasattr(pt, name) for name in pt.__all__), 'every name can be imported'\n"
        "assert pt.TaxonFeatures.__doc__\n"
        "pt.TaxonFeatures(None)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == (
        "ImportError: TaxonFeatures is a transformer of scikit-learn: "
        "pip install 'poincare-taxa[sklearn]'"
    )
