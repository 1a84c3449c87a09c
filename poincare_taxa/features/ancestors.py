"""The ancestor matrix: the exact features of a taxonomy, one column for every taxon.

A row has a 1 for a taxon itself and for each of its ancestors. The product of two rows is the
number of ancestors that they share, the kernel of Brownian motion along the edges, each of length
1: a linear model with a ridge penalty on this matrix *is* the Gaussian process of the tree, as the
product of features is the covariance. It is the baseline for whatever is made of vectors.
"""

import numpy as np
from scipy import sparse

from poincare_taxa.taxonomy.lookup import Keys
from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["ancestor_matrix"]


def ancestor_matrix(tax: Taxonomy, keys: Keys) -> sparse.csr_array:
    """Mark each taxon and its ancestors: a sparse matrix [k, n] of 0 and 1, float64.

    Ridge regression on it is the Gaussian process of the tree: the baseline that features of
    vectors should be compared with. Where the taxon is all that a model has, and a matrix of one
    column a taxon is no burden, nothing that we measured is better (``docs/does-it-help.md``).

    Parameters
    ----------
    tax
        The taxonomy.
    keys
        Ids or names of k taxa.

    Returns
    -------
    ancestors
        [k, n]; entry (i, v) is 1 where row v of the taxonomy (``tax.ids[v]``) is taxon i or an
        ancestor of it. Entries of a row are in the order of the columns, from the root on.
        Of training and test taxa the columns are the same. Weights of edges are a product:
        ``ancestors @ sparse.diags_array(np.sqrt(lengths))``.

    Raises
    ------
    TaxonomyError
        If a key is unknown, deleted or ambiguous.

    Examples
    --------
    >>> tax = Taxonomy.from_edges([("cat", "mammals"), ("dog", "mammals"), ("tabby", "cat")])
    >>> ancestor_matrix(tax, ["tabby", "dog"]).toarray()
    array([[1., 1., 1., 0.],
           [1., 0., 0., 1.]])
    """
    rows = np.atleast_1d(tax.rows(keys))
    from_root = tax.tree.lineages(rows)[:, ::-1]
    columns = from_root[from_root >= 0].astype(np.int32)
    ends = np.append(0, np.cumsum(tax.depth[rows].astype(np.int64) + 1))
    if ends[-1] < 2**31:
        ends = ends.astype(np.int32)  # scipy needs one dtype for both
    return sparse.csr_array((np.ones(len(columns)), columns, ends), shape=(len(rows), len(tax)))
