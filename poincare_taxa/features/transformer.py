"""`TaxonFeatures`: columns of numbers for taxa, as a transformer of scikit-learn."""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING or find_spec("sklearn"):
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.utils.validation import check_is_fitted, validate_data
else:  # the class can still be imported and documented, but not built

    class BaseEstimator:
        """In the place of scikit-learn's."""

        def __new__(cls, *_: Any, **__: Any) -> Self:
            """Name the extra."""
            raise ImportError(
                "TaxonFeatures is a transformer of scikit-learn: "
                "pip install 'poincare-taxa[sklearn]'"
            )

    class TransformerMixin:
        """In the place of scikit-learn's."""


from poincare_taxa.features import landmarks
from poincare_taxa.model.missing import Missing, known_rows
from poincare_taxa.model.model import TaxonEmbedding
from poincare_taxa.taxonomy.taxonomy import Taxonomy

if TYPE_CHECKING:
    from sklearn.utils import Tags

__all__ = ["TaxonFeatures"]

Output = Literal["shared_depth", "kernel"]
_MOST_CANDIDATES = 2**14
"""Training taxa that landmarks are chosen from; of more, as many that are evenly spaced."""


class TaxonFeatures(TransformerMixin, BaseEstimator):
    """Features of taxa for a model of your own: depth shared with landmarks, from the vectors.

    A column is a landmark, a taxon of the training set; its number is the radius down to which a
    taxon and the landmark have the same lineage. Linear models, trees and networks can use these
    numbers, and cannot use ``model[key]``: its coordinates hold the lower ranks in digits that
    standardising removes (`landmarks` has the mathematics). All is computed from radii and
    directions; the tree is not read.

    It belongs in front of a pipeline or in a ``ColumnTransformer``. Clones share the embedding, so
    that cross-validation and grid search copy no vectors.

    Parameters
    ----------
    model
        The embedding.
    num_features
        Number of landmarks. There are fewer where fewer explain the training taxa completely.
    output
        "shared_depth", or "kernel": coordinates whose scalar products are the Brownian kernel of
        the tree as far as the landmarks explain it. Do not standardise the latter: their scales are
        what a ridge penalty needs.
    missing
        What a key that leads to no taxon gives, as for `TaxonEmbedding.vectors`: "raise" an error,
        "nan" in all columns, or the features of the nearest "ancestor" that is in the embedding. A
        transformer cannot "drop" rows: targets would no longer be beside them.
    lineages
        Another release of the taxonomy, in which ancestors of missing keys are looked up, for
        "ancestor".

    Attributes
    ----------
    landmarks_ : Landmarks
        Their points, in the order of the columns.
    landmark_ids_ : ndarray [m]
        Their ids.
    n_features_in_ : int
        1, where X was a table or an array with one column.
    feature_names_in_ : ndarray
        Name of the column of keys, where X was a table.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.

    Notes
    -----
    Landmarks are chosen in O(n m²) time for n training taxa, of which at most 16,384 are
    candidates, and m columns; a taxon's features take O(m dim).

    Examples
    --------
    >>> import numpy as np
    >>> import poincare_taxa as pt
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> model = pt.embed(pt.load_sample("mammals"))
    >>> mass = {"Felis catus": 4.5, "Panthera leo": 160.0, "Mus musculus": 0.02, "Bos taurus": 750}
    >>> regression = make_pipeline(pt.TaxonFeatures(model), Ridge(alpha=10))
    >>> _ = regression.fit(list(mass), np.log10(list(mass.values())))
    >>> lynx, rat = regression.predict(["Lynx lynx", "Rattus norvegicus"])
    >>> bool(lynx > rat)
    True
    """

    def __init__(
        self,
        model: TaxonEmbedding,
        num_features: int = 256,
        *,
        output: Output = "shared_depth",
        missing: Missing = "raise",
        lineages: Taxonomy | None = None,
    ) -> None:
        self.model = model
        self.num_features = num_features
        self.output = output
        self.missing: Missing = missing
        self.lineages = lineages

    def fit(self, X: Any, y: Any = None) -> Self:
        """Choose landmarks among the training taxa.

        Parameters
        ----------
        X
            Keys, ids or names: a list, an array or a Series, or a table or array with one column.
        y
            Not used.

        Raises
        ------
        TaxonomyError
            If a key is unknown, deleted or ambiguous, and `missing` does not provide for it.
        ValueError
            If a parameter has none of its values, X has another number of columns than one, or no
            key leads to a taxon.
        """
        self._check_parameters()
        rows = np.unique(self._rows(X, reset=True))
        rows = rows[rows >= 0]
        if len(rows) == 0:
            raise ValueError("no key of X leads to a taxon: there is nothing to choose from")
        if len(rows) > _MOST_CANDIDATES:
            # Rows are in preorder, so that evenly spaced ones represent every clade by its size.
            rows = rows[np.linspace(0, len(rows) - 1, _MOST_CANDIDATES).astype(np.int64)]
        model = self.model
        self.landmarks_ = landmarks.choose_landmarks(
            model.radius[rows].cpu(), model.direction[rows].cpu(), self.num_features
        )
        chosen = rows[self.landmarks_.place]
        self.landmark_ids_ = model.taxonomy.ids.gather(chosen).to_numpy()
        return self

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Compute the features of taxa: [n, m], float64.

        Parameters
        ----------
        X
            Keys, as for `fit`; they need not be training taxa.

        Returns
        -------
        features
            Shared depths are in units of the radius: ``model.meta["settings"]["target_radius"]``
            has the radius of each depth of a layout.

        Raises
        ------
        NotFittedError
            Before `fit`.
        TaxonomyError, ValueError
            As `fit`.
        """
        check_is_fitted(self)
        self._check_parameters()
        rows = self._rows(X, reset=False)
        known = rows >= 0
        compute = (
            landmarks.shared_depth
            if self.output == "shared_depth"
            else landmarks.kernel_coordinates
        )
        at = torch.from_numpy(rows[known])
        found = compute(
            self.model.radius[at].cpu(), self.model.direction[at].cpu(), self.landmarks_
        )
        if known.all():
            return found
        features = np.full((len(rows), found.shape[1]), np.nan)
        features[known] = found
        return features

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the columns: the output and the id of the landmark, "shared_depth_9606".

        Parameters
        ----------
        input_features
            Not used.
        """
        check_is_fitted(self)
        return np.array([f"{self.output}_{key}" for key in self.landmark_ids_], dtype=object)

    def __sklearn_tags__(self) -> "Tags":
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _check_parameters(self) -> None:
        """Raise unless the parameters have values that this can compute with."""
        if not isinstance(self.model, TaxonEmbedding):
            raise TypeError(
                f"model is a TaxonEmbedding (pt.embed(tax)); got {type(self.model).__name__}"
            )
        if self.num_features < 1:
            raise ValueError(f"num_features must be at least 1; got {self.num_features}")
        if self.output not in ("shared_depth", "kernel"):
            raise ValueError(f"output is 'shared_depth' or 'kernel'; got {self.output!r}")
        if self.missing == "drop":
            raise ValueError(
                "missing='drop' would remove rows of X, and not their targets: filter X and y "
                "before (key in model), or take missing='nan' or 'ancestor'"
            )

    def _rows(self, X: Any, *, reset: bool) -> NDArray[np.int64]:
        """Rows of the keys of X, −1 for those that are missing; see `known_rows`."""
        # Of a table the name of the column is checked; a list of keys after it needs no name.
        if reset or (hasattr(X, "columns") and hasattr(self, "feature_names_in_")):
            validate_data(self, X, reset=reset, skip_check_array=True)
        return known_rows(self.model.taxonomy, _keys(X), self.missing, self.lineages)


def _keys(X: Any) -> Any:
    """Keys of a list, an array or a Series, or of the one column of a table or an array."""
    if isinstance(X, str | int):
        raise ValueError(f"X is many keys, a list or a column; got one: write [{X!r}]")
    if hasattr(X, "columns"):
        _require_one_column(len(X.columns))
        return X[X.columns[0]]
    nested = isinstance(X, list | tuple) and any(isinstance(row, list | tuple) for row in X)
    table: Any = np.array(X, dtype=object) if nested else X
    if getattr(table, "ndim", 1) == 1:
        return table
    _require_one_column(table.shape[1] if table.ndim == 2 else table.ndim)
    return table[:, 0]


def _require_one_column(count: int) -> None:
    if count != 1:
        raise ValueError(
            f"X is one column of keys, and has {count}: select it, such as X[['taxid']], or use "
            "make_column_transformer((TaxonFeatures(model), ['taxid']), …)"
        )
