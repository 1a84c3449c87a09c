"""Colours of taxa: by clade, by a number or by a category, for readers of every colour vision.

Clades and categories have ten colours and a grey for all others, those of the page in the browser:
each two are 0.095 or more from each other in OKLab, without one of the three kinds of cones of the
eye too (Machado, Oliveira & Fernandes 2009). No colour stands for two things. Numbers have
matplotlib's viridis.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from poincare_taxa.evaluation.groups import taxon_groups
from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["OTHERS", "PALETTE", "Colours", "Values", "colours", "label_of"]

Values = Mapping[Any, Any] | Sequence[Any] | ArrayLike | pl.Series
"""Key → value, or a value for each taxon in the order of the rows."""

PALETTE = (
    *("#008EFF", "#FF9000", "#008A00", "#AE006E", "#00CAFF"),
    *("#704A06", "#8F53B6", "#FF1752", "#8FBE86", "#4A00F8"),
)
OTHERS = "#8C8C8C"
_HOME = 30  # taxa of a focus from which on its own parts are coloured


@dataclass
class Colours:
    """The colours of all taxa, and what explains them.

    Attributes
    ----------
    of_taxon
        RGBA of each taxon [n, 4].
    on_top
        Number of each taxon [n]; what has a larger one is drawn over the others.
    clades
        Row of each coloured clade → its number of taxa, largest first.
    in_clade
        Row of each taxon's coloured clade [n]; -1 where it has none.
    legend
        Category → colour, and how many taxa have it.
    scale
        What a colour bar is made of (matplotlib's ScalarMappable); None where there are no numbers.
    what
        What the colours stand for, for a title.
    """

    of_taxon: NDArray[np.float64]
    on_top: NDArray[np.int64]
    what: str
    clades: dict[int, int] = field(default_factory=dict)
    in_clade: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    legend: dict[str, tuple[Any, int]] = field(default_factory=dict)
    scale: Any = None


def colours(
    taxonomy: Taxonomy,
    color_by: str | None = None,
    values: Values | None = None,
    colors: Mapping[Any, Any] | str | None = None,
    *,
    most: int = 12,
    focus: int = 0,
) -> Colours:
    """Choose the colour of every taxon.

    Parameters
    ----------
    taxonomy
        The taxonomy.
    color_by
        Taxon rank whose clades are coloured, or "depth 2"; by default the rank nearest to the root
        that has five clades or more.
    values
        Numbers or categories of taxa, which are coloured instead of clades.
    colors
        Colour of each category, or of each clade (clades of any rank, by key); of numbers the name
        of a colour map.
    most
        Number of clades that are named, the largest ten of them in colours of their own.
    focus
        Row; where its clade is large, it is the one whose parts are coloured by default.

    Raises
    ------
    ValueError
        If two of the arguments exclude each other, a rank does not exist, or there is not a value
        for every taxon.
    """
    if values is None and isinstance(colors, str):
        raise ValueError(
            f"colors={colors!r} names a colour map, which is for numbers: give them as values=…, "
            "or colours of clades as colors={'Primates': 'red'}"
        )
    if color_by is not None and (values is not None or colors is not None):
        raise ValueError("give color_by, or values, or colours of clades: they exclude each other")
    if values is not None:
        column = _column(taxonomy, values)
        if column.dtype.is_numeric() and not isinstance(colors, Mapping):
            return _of_numbers(column, colors or "viridis")
        return _of_categories(column, colors if isinstance(colors, Mapping) else {})
    if isinstance(colors, Mapping):
        return _of_given_clades(taxonomy, colors)
    return _of_clades(taxonomy, color_by, most, focus)


def label_of(taxonomy: Taxonomy, row: int) -> str:
    """Return the name of a row; the id of one without a name."""
    return taxonomy.names[row] or str(taxonomy.ids[row])


def _rgba(colors: Sequence[Any]) -> NDArray[np.float64]:
    from matplotlib.colors import to_rgba_array

    return np.asarray(to_rgba_array(list(colors)), np.float64)


def _of_clades(taxonomy: Taxonomy, color_by: str | None, most: int, focus: int) -> Colours:
    # Of a view from a large clade the parts of this clade are coloured.
    home = focus if taxonomy.tree.subtree_size[focus] >= _HOME else 0
    if color_by is None and home:
        inside = taxonomy.subtree(taxonomy.ids[home])
        name = _dividing(taxon_groups(inside))
        groups = {name: taxon_groups(taxonomy, [name])[name]} if name else {}
    else:
        groups = taxon_groups(taxonomy, None if color_by is None else [color_by])
        name = _dividing(groups)
    labels = groups[name].astype(np.int64) if name else np.full(len(taxonomy), -1)
    if color_by is None and home:
        outside = (labels < home) | (labels >= taxonomy.tree.end[home])
        labels = np.where(outside, -1, labels)
    count = np.bincount(labels[labels >= 0], minlength=1)
    largest = np.argsort(-count, kind="stable")[:most]
    largest = largest[count[largest] > 0]
    # In preorder, so that clades that lie side by side have different colours.
    coloured = zip(np.sort(largest[: len(PALETTE)]).tolist(), PALETTE, strict=False)
    palette = dict.fromkeys(largest.tolist(), OTHERS) | dict(coloured)
    what = f"coloured by {name}" if name else ""
    return _painted(labels, palette, count, what)


def _dividing(groups: dict[str, NDArray[np.int32]]) -> str:
    """Return the first name that has five groups or more, else the first; "" of none."""
    several = [name for name, of in groups.items() if len(np.unique(of[of >= 0])) >= 5]
    return (several or list(groups) or [""])[0]


def _of_given_clades(taxonomy: Taxonomy, colors: Mapping[Any, Any]) -> Colours:
    rows = np.atleast_1d(taxonomy.rows(list(colors)))
    marked = np.zeros(len(taxonomy), np.bool_)
    marked[rows] = True
    labels = taxonomy.tree.nearest_marked(marked).astype(np.int64)
    count = np.bincount(labels[labels >= 0], minlength=len(taxonomy))
    given = dict(zip(rows.tolist(), colors.values(), strict=True))
    order = sorted(given, key=lambda row: -int(count[row]))
    return _painted(labels, {row: given[row] for row in order}, count, "")


def _painted(
    labels: NDArray[np.int64], palette: dict[int, Any], count: NDArray[np.int64], what: str
) -> Colours:
    """Paint the taxa of clades; the largest clade lies under the others, and all others below."""
    place = np.full(len(labels) + 1, len(palette))  # The last entry is for label -1.
    place[list(palette)] = np.arange(len(palette))
    of_taxon = place[labels]
    return Colours(
        _rgba([*palette.values(), OTHERS])[of_taxon],
        np.where(of_taxon == len(palette), -1, of_taxon),
        what,
        {row: int(count[row]) for row in palette},
        np.where(of_taxon == len(palette), -1, labels),
    )


def _column(taxonomy: Taxonomy, values: Values) -> pl.Series:
    """Values in the order of the rows; null where there is none."""
    if hasattr(values, "items"):
        pairs = dict(values.items())  # type: ignore[union-attr]
        given = pl.Series(list(pairs.values()), strict=False).alias(
            str(getattr(values, "name", None) or "")
        )
        rows = np.atleast_1d(taxonomy.rows(list(pairs)))
        at = np.full(len(taxonomy), -1)
        at[rows] = np.arange(len(rows))
        column = given.gather(pl.Series(at).set(pl.Series(at < 0), None))
    else:
        column = values if isinstance(values, pl.Series) else pl.Series(np.asarray(values))
        if len(column) != len(taxonomy):
            raise ValueError(
                f"{len(column):,} values for {len(taxonomy):,} taxa: give one for each in their "
                "order, or {key: value}"
            )
    return column.cast(pl.Float64).fill_nan(None) if column.dtype.is_numeric() else column


def _of_numbers(column: pl.Series, colormap: str) -> Colours:
    from matplotlib import cm, colormaps
    from matplotlib.colors import Normalize

    numbers = column.to_numpy()
    known = np.isfinite(numbers)
    if not known.any():
        raise ValueError("no value is a number")
    ends = float(numbers[known].min()), float(numbers[known].max())
    scale = cm.ScalarMappable(Normalize(*ends), colormaps[colormap])
    painted = np.tile(_rgba([OTHERS]), (len(numbers), 1))
    painted[known] = scale.to_rgba(numbers[known])
    what = f"{known.sum():,} values" + (f" of {column.name}" if column.name else "")
    return Colours(painted, known.astype(np.int64), what, scale=scale)


def _of_categories(column: pl.Series, colors: Mapping[Any, Any]) -> Colours:
    names = column.cast(pl.String)
    counted = names.drop_nulls().value_counts(sort=True)
    count = dict(sorted(counted.rows(), key=lambda row: (-row[1], row[0])))
    given = {str(key): color for key, color in colors.items()}
    free = [color for color in PALETTE if color not in given.values()]
    palette = {}
    for name in count:
        color = given.get(name) or (free.pop(0) if free else None)
        if color is not None:
            palette[name] = color
    place = {name: i for i, name in enumerate(palette)}
    others = len(palette)
    of_taxon = np.array([place.get(name, others) for name in names], np.int64)
    legend = {name: (color, count[name]) for name, color in palette.items()}
    rest = [name for name in count if name not in palette]
    if rest:
        legend[f"{len(rest):,} others"] = (OTHERS, sum(count[name] for name in rest))
    painted = _rgba([*palette.values(), OTHERS])[of_taxon]
    what = f"coloured by {column.name}" if column.name else ""
    return Colours(painted, np.where(of_taxon == others, -1, of_taxon), what, legend=legend)
