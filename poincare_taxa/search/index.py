"""`SearchIndex`: exact neighbours among millions of points, without looking at most of them."""

import sys
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from poincare_taxa import kernels
from poincare_taxa.kernels.arguments import By, Manifold, Points, PointsLike, check_rows
from poincare_taxa.kernels.search import (
    Counts,
    Neighbours,
    check_targets,
    checked,
    checked_skip,
    is_ancestor,
    lost_rows,
    with_distances,
    with_lost,
    without_lost,
)
from poincare_taxa.search.near import nearest_of_one

if TYPE_CHECKING:
    from poincare_taxa.search.nodes import Nodes

__all__ = ["SearchIndex"]

# Nanoseconds per row of a table: of an opened leaf, of a scan for one query and for one more, and
# of building an index.
_OPENED, _SCANNED, _ONE_MORE, _BUILDING = 12.0, 14.0, 1.5, 400.0
_LOCK = threading.Lock()  # an index is built once, also where several threads search
_PROBES = 32  # rows whose search shows what share of the table one opens
_FEWEST = 4096  # rows that a scan reads as fast as an index is walked
# Share of opened leaves, in searches for neighbours, up to which counts by nodes are faster than
# scans. Of layouts of 20,000 to a million taxa with noise, counts of 256 queries took .2 to .8 of
# the time of a scan at shares up to .2, .6 to 1 at .3 to .45, 1 to 1.2 at .86 (random directions).
_COUNTED = 0.25


class _Built(NamedTuple):
    """Nodes, and what they are worth."""

    nodes: "Nodes | None"
    """None where there are none: the table is small, or cannot be bounded."""
    opened_share: float


class SearchIndex:
    """An index of points for exact search: the same neighbours, and ties, as a scan of the table.

    Points stand in leaves of 128, near ones close together; nodes above these bound the distance of
    all their points from a query (`kernels.numba.index` has the derivation). A search opens only
    the leaves whose bound is below the k-th distance found so far. Where it would open so many that
    a scan is faster (directions by lot, for example), it scans the table instead, as it does where
    distances cannot be bounded (radii above 350; points of the ball at its rim). A few searches do
    not pay for building the nodes either: they are scans, until `build` or the time they have taken
    changes that.

    Parameters
    ----------
    points
        [n, dim] of the ball, [n, 1 + dim] of the polar model, or (radius, direction); on the CPU.
        They are not copied, and must not change.
    manifold
        "ball" or "polar".
    c
        Curvature parameter of the ball.
    rows
        int64 [m], ascending: the rows that are candidates; all by default. Rows that are no points
        (nan, infinite, or of negative radius) never are.
    ordered
        Whether near points are close together in the table, as the nodes of a tree in preorder are.
        Otherwise they are sorted.
    depth
        int64 [n]: the level of each row, where these are the nodes of a tree in preorder. Counts by
        distance then go through nodes of their own, in which the points of a level stand together:
        seen from far they are about equally far, so that more nodes are counted as a whole.

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit, the points are not on the CPU, or rows are not in the table
        or not ascending.

    Notes
    -----
    Time: O(n) for points in order, O(n log n) for others. Memory: 8 (dim + 3) + 1 bytes a row for
    an even `dim` (105 in ten dimensions), and 8 more where not all rows in their order are
    candidates; nodes by depth need as much again, with these 8. Many Python threads may search at
    once.

    Examples
    --------
    >>> points = torch.tensor([[0.0, 0.0], [0.5, 0.0], [-0.6, 0.0]])
    >>> SearchIndex(points).nearest(torch.tensor([0]), 2)
    Neighbours(distance=tensor([[1.0986, 1.3863]], dtype=torch.float64), row=tensor([[1, 2]]))
    """

    def __init__(
        self,
        points: PointsLike,
        *,
        manifold: Manifold = "ball",
        c: float = 1.0,
        rows: Tensor | None = None,
        ordered: bool = False,
        depth: Tensor | None = None,
    ) -> None:
        self.manifold: Manifold = manifold
        self._points = points
        self._table = without_lost(Points.of(points, manifold, c))
        if self._table.device.type != "cpu":
            raise ValueError(
                f"an index has points on the CPU; these are on {self._table.device}. Move them "
                "with .cpu(), or scan them there with kernels.nearest"
            )
        if rows is not None:
            check_rows("rows", rows, len(self._table))
            if bool((rows[1:] <= rows[:-1]).any()):
                raise ValueError("rows must be ascending, each once: torch.unique(rows)")
        self._some = rows is not None
        self._candidates = _without_lost(self._table, rows)
        self._ordered = ordered
        if depth is not None and depth.shape != (len(self._table),):
            raise ValueError(
                f"depth must have one number for each of {len(self._table):,} rows; "
                f"got {tuple(depth.shape)}"
            )
        self._depth = depth
        self._built: _Built | None = None
        self._levels: Nodes | None = None  # the points by depth
        self._scanning = 0.0  # nanoseconds a row that scans have taken so far, roughly

    def build(self) -> None:
        """Build the nodes now, if they are not there: in seconds for millions of points."""
        with _LOCK:
            if self._built is None:
                self._built = self._build()

    def _build(self) -> "_Built":
        """Build nodes in the table's order, or in a sorted one, and see what they are worth."""
        # Imported here, where loops are compiled or read from disk: it takes a second.
        from poincare_taxa.search.nodes import Nodes, are_bounded
        from poincare_taxa.search.order import by_halves

        if len(self) <= _FEWEST or not are_bounded(self._table):
            return _Built(None, 1.0)
        rows = self._candidates
        if not self._ordered:
            every = torch.arange(len(self._table)) if rows is None else rows
            rows = by_halves(self._table, every)
        nodes = Nodes.build(self._table, rows)
        return _Built(nodes, self._probe(nodes))

    def _counting(self, nodes: "Nodes", ancestor: bool) -> "Nodes":
        """Nodes that count with the least work: by depth for distances, where there is a depth."""
        if self._depth is None or ancestor:
            return nodes
        from poincare_taxa.search.nodes import Nodes

        with _LOCK:
            if self._levels is None:
                rows = self._candidates
                depth = self._depth if rows is None else self._depth[rows]
                order = torch.argsort(depth, stable=True)
                self._levels = Nodes.build(self._table, order if rows is None else rows[order])
        return self._levels

    def _probe(self, nodes: "Nodes") -> float:
        """Share of the leaves that a search opens: the mean of some rows."""
        rows = torch.randint(len(self), (_PROBES,), generator=torch.Generator().manual_seed(0))
        if self._candidates is not None:
            rows = self._candidates[rows]
        opened = nodes.nearest(self._table.at(rows), 10, False, rows)[1]
        return float(opened.double().mean()) / len(nodes.leaves)

    def __len__(self) -> int:
        """Count the candidates."""
        return len(self._table) if self._candidates is None else len(self._candidates)

    def count(self, within: tuple[int, int] | None = None) -> int:
        """Count the candidates in a stretch of the table, as `nearest` takes it."""
        low, high = self._stretch(within)
        return high - low

    @property
    def nbytes(self) -> int:
        """Memory of the nodes, in bytes; 0 before they are built, and where there are none."""
        nodes = [None if self._built is None else self._built.nodes, self._levels]
        return sum(some.nbytes for some in nodes if some is not None)

    @property
    def opened_share(self) -> float:
        """Share of the leaves that searches for 32 rows by lot opened; 1 where there are none."""
        return 1.0 if self._built is None else self._built.opened_share

    @torch.no_grad()
    def nearest(
        self,
        queries: PointsLike,
        k: int,
        *,
        by: By = "distance",
        skip: Tensor | None = None,
        within: tuple[int, int] | None = None,
    ) -> Neighbours:
        """Find the k nearest candidates of each query, exactly.

        Parameters
        ----------
        queries
            Points as those of the index; or int64 [Q], rows of the table, which are not their own
            neighbours.
        k
            At least 1.
        by
            "distance" or "ancestor", as for `kernels.nearest`.
        skip
            int64 [Q]: a row that is no candidate, −1 for none.
        within
            The first row and the row after the last of a stretch of the table: only its candidates
            count. Of a taxonomy, the rows of a clade: ``(i, tree.end[i])``.

        Returns
        -------
        neighbours
            As those of `kernels.nearest`.

        Raises
        ------
        ValueError
            If ``k < 1``, shapes or dtypes do not fit, or a row is not in the table.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1; got {k}")
        rows, asked, skip = self._asked(queries, skip)
        ancestor = is_ancestor(by)
        low, high = self._stretch(within)
        nodes = self._paying(len(asked), k, asked)
        if nodes is None or (within is not None and not self._ordered):
            some = self._candidates
            if within is not None:
                some = torch.arange(len(self._table)) if some is None else some
                some = some[low:high]
            # Where numba is not loaded, it need not be for a few searches.
            is_one = len(asked) == 1 and not ancestor and asked.radius is not None
            if is_one and "numba" not in sys.modules:
                home = None
                if rows is not None and self._ordered:
                    home = int(rows if some is None else torch.searchsorted(some, rows))
                return nearest_of_one(self._table, asked, k, skip, some, home)
            return kernels.nearest(
                self._points, _like(asked), k, **self._geometry, by=by, skip=skip, rows=some
            )
        home = None
        if rows is not None and self._ordered:  # a row behind all candidates starts at the last
            home = self._place(rows).clamp(max=len(self) - 1)
        found, _ = nodes.nearest(asked, k, ancestor, skip, home, (low, high))
        return with_distances(self._table, asked, found, ancestor)

    @torch.no_grad()
    def count_nearer(
        self,
        queries: PointsLike,
        targets: Tensor,
        *,
        by: By = "distance",
        skip: Tensor | None = None,
    ) -> Counts:
        """Count, for each query, the rows of the table that are nearer than each of its targets.

        All rows are candidates: of an index of some `rows`, this is an error. Nodes that are nearer
        than a target as a whole, or farther, are counted without being opened; consecutive queries
        that are near each other share what they open.

        Parameters
        ----------
        queries, by, skip
            As for `nearest`.
        targets
            int64 [Q, T]: rows of the table, −1 where a query has fewer than T.

        Returns
        -------
        counts
            As those of `kernels.count_nearer`.

        Raises
        ------
        ValueError
            If shapes or dtypes do not fit, or a row is not in the table, or not all are candidates.
        """
        if self._some:
            raise ValueError("an index of some rows cannot count; make one of all rows")
        _, asked, skip = self._asked(queries, skip)
        ancestor = is_ancestor(by)
        check_targets(targets, self._table, asked)
        nodes = self._paying(len(asked), 1, asked, counts=True)
        if nodes is None:
            return kernels.count_nearer(
                self._points, _like(asked), targets, **self._geometry, by=by, skip=skip
            )
        nodes = self._counting(nodes, ancestor)
        counts = nodes.count_nearer(self._table, asked, targets, ancestor, skip)
        return with_lost(self._table, asked, targets, skip, *counts)

    def _asked(
        self, queries: PointsLike, skip: Tensor | None
    ) -> tuple[Tensor | None, Points, Tensor]:
        """Rows of the queries, if they are rows; their points; and what each skips."""
        rows = None
        if isinstance(queries, Tensor) and queries.dtype == torch.int64:
            rows = check_rows("queries", queries, len(self._table))
            asked, skip = self._table.at(rows), rows if skip is None else skip
        else:
            asked = checked(self._points, queries, self.manifold, self._table.c)[1]
        asked = without_lost(asked)
        return rows, asked, checked_skip(skip, self._table, asked)

    def _paying(
        self, number: int, k: int, asked: Points, *, counts: bool = False
    ) -> "Nodes | None":
        """Nodes, if so many searches, or counts, take less time than a scan for all of them."""
        scan = _SCANNED + (number - 1) * _ONE_MORE
        if self._built is None:
            self._scanning += scan
            if self._scanning < _BUILDING:
                return None
            self.build()
        nodes, share = self._built or _Built(None, 1.0)
        cheap = share <= _COUNTED if counts else number * _OPENED * share <= scan
        if nodes is None or not cheap:
            return None
        from poincare_taxa.search.nodes import are_bounded

        return nodes if are_bounded(asked, k) else None

    @property
    def _geometry(self) -> dict[str, Any]:
        """Manifold and curvature, as the scans take them."""
        return {"manifold": self.manifold, "c": self._table.c}

    def _stretch(self, within: tuple[int, int] | None) -> tuple[int, int]:
        """Places, among ascending candidates, of a stretch of rows."""
        if within is None:
            return 0, len(self)
        first, last = within
        if not 0 <= first <= last <= len(self._table):
            raise ValueError(f"within must lie within 0 to {len(self._table)}; got {within}")
        low, high = self._place(torch.tensor([first, last])).tolist()
        return low, high

    def _place(self, rows: Tensor) -> Tensor:
        """Places of rows among ascending candidates; of the next one where a row is none."""
        return rows if self._candidates is None else torch.searchsorted(self._candidates, rows)


def _like(points: Points) -> PointsLike:
    """Points as a caller gives them."""
    radius, coordinates = points.radius, points.coordinates
    return coordinates if radius is None else (radius, coordinates)


def _without_lost(points: Points, rows: Tensor | None) -> Tensor | None:
    """Rows that are points; None for all."""
    lost = lost_rows(points)
    if not bool(lost.any()):
        return rows
    return torch.nonzero(~lost).flatten() if rows is None else rows[~lost[rows]]
