"""Eleven checks of the folder of a saved embedding: files, tree, points and settings.

Each check recomputes a statement of the files from other parts of them and compares the two. A
check is skipped if a check that it depends on did not pass, so the first failure in the list is the
cause of those after it.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from poincare_taxa.files.parquet import faults_of_polars
from poincare_taxa.files.records import dtype_name
from poincare_taxa.geometry import convert, polar
from poincare_taxa.model import storage
from poincare_taxa.taxonomy.taxonomy import Taxonomy

if TYPE_CHECKING:
    from poincare_taxa.layouts.tree import Layout

__all__ = ["CheckResult", "check", "first_fault"]

_SAMPLE = 1000
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class CheckResult:
    """Result of one check.

    Attributes
    ----------
    name
        Name of the check.
    status
        "passed", "failed", or "skipped": a check that it depends on did not pass, or the files have
        nothing to compare with.
    detail
        A sentence that states what was compared, or what is wrong.
    """

    name: str
    status: Literal["passed", "failed", "skipped"]
    detail: str

    def to_dict(self) -> dict[str, str]:
        """Return the fields as a dict that JSON can hold."""
        return asdict(self)


def check(path: str | Path, *, reproduce: Taxonomy | None = None) -> list[CheckResult]:
    """Verify a saved embedding and its taxonomy.

    ==============  ==============================================================================
    files           every file exists, is what was recorded, and has the columns and the shapes
    mapping         one point per taxon; ids are unique and none is missing
    self-loops      no taxon is its own parent
    indices         every parent is a row, one root, rows in preorder; synonyms and old ids fit
    depth           every taxon has a larger radius than its parent
    projection      unit directions, finite radii, every point strictly inside the ball
    distance        recorded distances are reproduced; distances are a metric on a sample
    initialisation  the layout with the recorded settings reproduces the directions
    siblings        no two children of one parent have the same point
    targets         target radii start at 0 and grow with depth; every radius equals its target
    configuration   recorded dim, dtype, number of taxa, seed and source agree with the files
    ==============  ==============================================================================

    With `reproduce` there is one more:

    ==============  ==============================================================================
    reproduction    the source has the recorded SHA-256 and these taxa, and a layout of it with the
                    recorded settings has these vectors: bit for bit with the numpy and the
                    processor that made them, else to an ulp on each level of the tree
    ==============  ==============================================================================

    Shards (`embed_shards`) are checked one after another. Of the points of a DAG
    (`ClosureEmbedding`) files, mapping and projection are verified, and

    ==============  ==============================================================================
    pairs           both ends of every pair are nodes; no pair is listed twice; there is no cycle
    ==============  ==============================================================================

    Parameters
    ----------
    path
        Folder of a saved embedding.
    reproduce
        The taxonomy, read again from its source.

    Returns
    -------
    results
        One result for each line of the table, in this order.

    Raises
    ------
    FileNotFoundError, ValueError
        If `path` has no ``meta.json`` of an embedding, or `reproduce` is given and it has shards.
    """
    meta = storage.read_meta(path)
    if "shards" in meta:
        return _of_shards(Path(path), meta["shards"], reproduce)
    is_dag = "nodes.parquet" in meta.get("files", {})
    saved = (_SavedDag if is_dag else _Saved)(Path(path), meta, reproduce)
    results: dict[str, CheckResult] = {}
    checks = _DAG_CHECKS if is_dag else _CHECKS
    if reproduce is not None:
        checks = checks | {"reproduction": (("mapping",), _reproduction)}
    for name, (needs, verify) in checks.items():
        failed = [need for need in needs if results[need].status != "passed"]
        if failed:
            results[name] = CheckResult(name, "skipped", f"needs {', '.join(failed)}")
            continue
        try:
            with faults_of_polars("the tables cannot be computed with"):
                results[name] = CheckResult(name, "passed", verify(saved))
        except _FailedError as failure:
            results[name] = CheckResult(name, "failed", str(failure))
        except _NothingToCompareError as reason:
            results[name] = CheckResult(name, "skipped", str(reason))
        except Exception as error:  # the files may hold anything
            what = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            results[name] = CheckResult(name, "failed", f"what was recorded is unusable ({what})")
    return list(results.values())


def _of_shards(
    path: Path, shards: list[dict[str, Any]], reproduce: Taxonomy | None
) -> list[CheckResult]:
    """Check shards, one at a time in memory: of each check the first that failed, else all."""
    if reproduce is not None:
        raise ValueError(
            f"{path} has shards, and vectors are computed again as a whole: save the joined "
            f"embedding, pt.load({str(path)!r}).save(…), and check that"
        )
    found = [_of_shard(path, shard) for shard in shards]
    results = []
    for name in _CHECKS:
        each = [(shard["folder"], some[name]) for shard, some in zip(shards, found, strict=True)]
        for status, about in (("failed", ""), ("skipped", ""), ("passed", f"{len(each)} shards; ")):
            of_status = [one for one in each if one[1].status == status]
            if of_status:
                folder, result = of_status[0]
                results.append(
                    CheckResult(name, result.status, f"{about}{folder}: {result.detail}")
                )
                break
    return results


def _of_shard(path: Path, shard: dict[str, Any]) -> dict[str, CheckResult]:
    try:
        return {result.name: result for result in check(storage.shard_folder(path, shard))}
    except (OSError, ValueError) as error:
        found = {name: CheckResult(name, "skipped", "needs files") for name in _CHECKS}
        return found | {"files": CheckResult("files", "failed", str(error))}


class _FailedError(Exception):
    """A check has failed; its message becomes the detail of the result."""


class _NothingToCompareError(Exception):
    """A check has nothing to compare with; its message becomes the detail of the result."""


@dataclass(frozen=True)
class _Saved:
    """Contents of the folder; each part is read when a check needs it."""

    path: Path
    meta: dict[str, Any]
    again: Taxonomy | None = None
    """The taxonomy, read again from its source."""

    @cached_property
    def tables(self) -> dict[str, pl.DataFrame]:
        return storage.read_tables(self.path, self.meta)

    @property
    def frame(self) -> pl.DataFrame:
        return self.tables["taxonomy"]

    @cached_property
    def taxonomy(self) -> Taxonomy:
        return storage.taxonomy_of(self.path, self.tables, self.meta)

    @cached_property
    def points(self) -> dict[str, Tensor]:
        return storage.read_points(self.path)

    @property
    def radius(self) -> Tensor:
        return self.points["radius"]

    @property
    def direction(self) -> Tensor:
        return self.points["direction"]

    def sample(self, size: int) -> np.ndarray:
        """Random rows [size, _SAMPLE], the same at every call."""
        return np.random.default_rng(0).integers(len(self.radius), size=(size, _SAMPLE))

    def at(self, rows: Any) -> tuple[Tensor, Tensor]:
        """Radius and direction of rows, in float64."""
        return self.radius[rows].double(), self.direction[rows].double()

    def name(self, row: int) -> str:
        """Name of a row in messages."""
        return f"row {row} (id {self.frame['id'][row]}, {self.frame['name'][row]})"


class _SavedDag(_Saved):
    """Contents of the folder of a `ClosureEmbedding`."""

    @cached_property
    def tables(self) -> dict[str, pl.DataFrame]:
        names = ("nodes", "pairs") if "pairs.parquet" in self.meta["files"] else ("nodes",)
        return {name: storage.read_table(self.path, name) for name in names}

    @property
    def frame(self) -> pl.DataFrame:
        return self.tables["nodes"].rename({"name": "id"})

    def name(self, row: int) -> str:
        return f"row {row} (name {self.frame['id'][row]})"


def _pairs(saved: _Saved) -> str:
    from scipy.sparse import csr_array  # takes a tenth of a second, and a search needs none
    from scipy.sparse.csgraph import connected_components

    if "pairs" not in saved.tables:
        raise _NothingToCompareError("no pairs recorded")
    n = len(saved.frame)
    ends = saved.tables["pairs"].select("ancestor", "descendant").cast(pl.Int64).to_numpy()
    outside = ((ends < 0) | (ends >= n)).any(axis=1)
    if outside.any():
        row = int(outside.argmax())
        raise _FailedError(f"pair {row} is {ends[row].tolist()}, and nodes run from 0 to {n - 1}")
    if doubles := len(ends) - len(np.unique(ends, axis=0)):
        raise _FailedError(f"{doubles} pairs are listed more than once")
    graph = csr_array((np.ones(len(ends), np.int8), (ends[:, 1], ends[:, 0])), shape=(n, n))
    pieces, piece = connected_components(graph, directed=True, connection="strong")
    if pieces < n or (ends[:, 0] == ends[:, 1]).any():
        loops = np.bincount(piece)[piece] > 1
        row = int(loops.argmax()) if loops.any() else int(ends[ends[:, 0] == ends[:, 1]][0, 0])
        raise _FailedError(f"{saved.name(row)} is an ancestor of itself")
    return f"{len(ends):,} pairs of nodes, without a cycle"


def _files(saved: _Saved) -> str:
    problems = storage.file_problems(saved.path, saved.meta)
    if not problems:  # only then are they worth reading
        try:
            _ = saved.tables, saved.points
        except (OSError, ValueError) as error:
            problems.append(str(error))
    if problems:
        raise _FailedError("; ".join(problems))
    return f"{len(saved.meta['files'])} files as they were written"


def _mapping(saved: _Saved) -> str:
    ids, r, u = saved.frame["id"], saved.radius, saved.direction
    if len(ids) != len(r):
        raise _FailedError(
            f"{len(ids)} taxa, but radius {list(r.shape)} and direction {list(u.shape)}: "
            "taxonomy and vectors of different embeddings?"
        )
    if ids.null_count():
        raise _FailedError(f"{ids.null_count()} rows have no id")
    if doubles := len(ids) - ids.n_unique():
        first = int(ids.is_duplicated().arg_max() or 0)
        raise _FailedError(f"{doubles} ids occur more than once, the first in {saved.name(first)}")
    return f"{len(ids):,} ids, each with one point"


def _self_loops(saved: _Saved) -> str:
    loops = (saved.frame["id"] == saved.frame["parent"]).fill_null(False)
    if loops.any():
        raise _FailedError(f"{saved.name(int(loops.arg_max() or 0))} is its own parent")
    return "no taxon is its own parent"


def _indices(saved: _Saved) -> str:
    try:
        taxonomy = saved.taxonomy
    except ValueError as error:
        raise _FailedError(str(error)) from None
    return f"one root, every parent known, rows in preorder, {taxonomy.tree.max_depth + 1} levels"


def _depth(saved: _Saved) -> str:
    parent, r = torch.from_numpy(saved.taxonomy.tree.parent[1:].copy()).long(), saved.radius
    # A branch length may be 0, or less than the dtype resolves.
    lengths = saved.meta.get("layout", {}).get("lengths")
    inwards = r[1:] < r[parent] if lengths else r[1:] <= r[parent]
    if inwards.any():
        row = 1 + int(inwards.long().argmax())
        raise _FailedError(
            f"{int(inwards.sum())} taxa have no larger radius than their parent, the first is "
            f"{saved.name(row)}: radius {r[row]:.4g} below {r[parent[row - 1]]:.4g}"
        )
    which = "no taxon has a smaller" if lengths else "every taxon has a larger"
    return f"{which} radius than its parent"


def first_fault(radius: Tensor, direction: Tensor) -> tuple[int, str] | None:
    """Find the first row of a table that is no point of hyperbolic space, and what is wrong.

    Parameters
    ----------
    radius, direction
        Polar coordinates [n] and [n, dim].
    """
    finite = radius.isfinite() & direction.isfinite().all(1)
    # The layout's tolerance is 16 eps; each square and each addition here may round once more.
    slack = (16 + direction.shape[1]) * torch.finfo(direction.dtype).eps
    faults = {
        "has a coordinate that is not finite": ~finite,
        "has a negative radius": radius < 0,
        "has a direction that is no unit vector": finite
        & ((direction.double().square().sum(1) - 1).abs() > slack),
    }
    for dtype in (torch.float32, torch.float64):
        points = convert.polar_to_ball(radius.to(dtype), direction.to(dtype))
        outside = ~(torch.linalg.vector_norm(points, dim=1) < 1)
        faults[f"is not inside the ball in {dtype}"] = outside
    for what, rows in faults.items():
        if rows.any():
            return int(rows.long().argmax()), what
    return None


def _projection(saved: _Saved) -> str:
    if fault := first_fault(saved.radius, saved.direction):
        row, what = fault
        raise _FailedError(f"{saved.name(row)} {what}")
    return f"all inside the ball, radius up to {saved.radius.max():.4g}"


def _distance(saved: _Saved) -> str:
    # 1. Axioms of a metric on random triples.
    a, b, c = saved.sample(3)
    ab, bc, ac = (polar.dist(*saved.at(i), *saved.at(j)) for i, j in ((a, b), (b, c), (a, c)))
    # The tolerance covers a few roundings of numbers as large as the radii.
    slack = 64 * torch.finfo(torch.float64).eps * (1 + saved.radius.max().double())
    if polar.dist(*saved.at(a), *saved.at(a)).max() > 0:
        raise _FailedError("the distance of a taxon from itself is not 0")
    if (ab - polar.dist(*saved.at(b), *saved.at(a))).abs().max() > slack:
        raise _FailedError("distances are not symmetric")
    if (ac > ab + bc + slack).any():
        raise _FailedError(
            "distances violate the triangle inequality: directions are not unit vectors"
        )
    # 2. Distances that were recorded when the embedding was saved.
    probe = saved.meta.get("probe")
    if not probe:
        raise _NothingToCompareError("no recorded distances to compare with")
    rows = (saved.taxonomy.rows(pl.Series(probe[end])) for end in ("a", "b"))
    recorded = torch.tensor(probe["distance"], dtype=torch.float64)
    off = (polar.dist(*saved.at(next(rows)), *saved.at(next(rows))) - recorded).abs()
    if off.max() > slack:
        worst = int(off.argmax())
        raise _FailedError(
            f"{int((off > slack).sum())} of {len(off)} recorded distances differ, the most between "
            f"ids {probe['a'][worst]} and {probe['b'][worst]}, by {off[worst]:.3g}"
        )
    return f"a metric on {_SAMPLE:,} triples; {len(off)} recorded distances reproduced"


def _layout_again(saved: _Saved, taxonomy: Taxonomy) -> "Layout":
    """Compute the layout of a taxonomy with the recorded settings."""
    # Imported here: opening an embedding needs no layout.
    from poincare_taxa.layouts.distances import distance_layout
    from poincare_taxa.layouts.tree import layout, layout_in_layers

    settings = saved.meta.get("settings", {})
    method, made = settings.get("method"), saved.meta.get("layout", {})
    if method not in ("layout", "refined layout"):
        raise _NothingToCompareError("the points are not those of a layout with recorded settings")
    dim, dtype, seed = settings["dim"], _DTYPES[settings["dtype"]], settings["seed"]
    # The first versions ignored branch lengths.
    tree = taxonomy.tree if made.get("lengths") else taxonomy.tree.topology
    if dim != saved.direction.shape[1]:
        raise _FailedError(f"settings have dim {dim!r}, the file {saved.direction.shape[1]}")
    if any(proposal["kept"] for proposal in made.get("passes", [])[1:]):
        return layout_in_layers(tree, dim, made["tau"], dtype, seed)
    chosen = made["tau"] if "aim" in settings else None  # else the default of the layout
    compute = distance_layout if settings.get("aim") == "distances" else layout
    return compute(tree, dim, tau=chosen, dtype=dtype, seed=seed)


def _initialisation(saved: _Saved) -> str:
    again = _layout_again(saved, saved.taxonomy)
    slack = _slack(saved)
    off = (again.direction.double() - saved.direction.double()).abs().amax(1)
    if off.max() > slack:
        raise _FailedError(
            f"{int((off > slack).sum())} directions differ from the layout of "
            f"{_described(saved)}, the first is that of "
            f"{saved.name(int((off > slack).long().argmax()))}"
        )
    return f"the layout of {_described(saved)} has these directions"


def _slack(saved: _Saved) -> float:
    """On another processor the same operations may differ by an ulp on each level."""
    return (4 + saved.taxonomy.tree.max_depth) * torch.finfo(saved.direction.dtype).eps


def _described(saved: _Saved) -> str:
    settings = saved.meta["settings"]
    return f"dim {settings['dim']}, {settings['dtype']}, seed {settings['seed']}"


def _reproduction(saved: _Saved) -> str:
    source = saved.again
    assert source is not None
    if isinstance(saved, _SavedDag):
        raise _NothingToCompareError("the points of a DAG are not those of a layout of a taxonomy")
    # 1. The same file, and the same taxa in it.
    recorded, found = saved.meta.get("source") or {}, source.source or {}
    if recorded.get("sha256") != found.get("sha256"):
        raise _FailedError(
            f"this is another source: its SHA-256 is {found.get('sha256')}, that of the vectors is "
            f"{recorded.get('sha256')} ({recorded.get('path', 'without a path')})"
        )
    if not source.to_frame().equals(saved.taxonomy.to_frame()):
        raise _FailedError(
            f"the source has {len(source):,} taxa, which are not the {len(saved.frame):,} of the "
            "vectors, or not in their order; was a part of it embedded, or other columns of it?"
        )
    # 2. The same vectors.
    again = _layout_again(saved, source)
    if torch.equal(again.radius, saved.radius) and torch.equal(again.direction, saved.direction):
        return f"the source and {_described(saved)} give these vectors bit for bit"
    off = (again.direction.double() - saved.direction.double()).abs().max()
    far = (again.radius.double() / saved.radius.double().clamp(min=1e-300) - 1)[1:].abs().max()
    most, slack = max(float(off), float(far)), _slack(saved)
    versions = saved.meta.get("versions", {})
    there = versions.get("numpy"), versions.get("processor")
    here = np.__version__, storage.processor()
    what = f"numpy {there[0]} on {there[1] or 'a processor that was not recorded'}"
    if here == there or most > slack:
        raise _FailedError(
            f"vectors made here differ from those of {what} by up to {most:.3g}; another processor "
            f"or numpy may explain {slack:.3g}"
        )
    return (
        f"the source and {_described(saved)} give these vectors to {most:.3g}, at most {slack:.3g} "
        f"between processors; they were made with {what}, here is {here[0]} on {here[1]}"
    )


def _siblings(saved: _Saved) -> str:
    tree = saved.taxonomy.tree
    parent = tree.parent
    apart = tree.height > tree.height[parent]  # Siblings on edges of length 0 have one place.
    among = np.flatnonzero(np.append(False, (tree.num_children[parent] > 1)[1:] & apart[1:]))
    if len(among) == 0:
        return "no taxon has a sibling"
    table = pl.DataFrame(
        {"parent": parent[among], "radius": saved.radius[among].numpy()}
        | {f"u{k}": saved.direction[among, k].numpy() for k in range(saved.direction.shape[1])}
    )
    shared = table.is_duplicated()
    if shared.any():
        first = int(among[int(shared.arg_max() or 0)])
        raise _FailedError(
            f"{shared.sum():,} of {len(among):,} taxa share their point with a sibling, the first "
            f"is {saved.name(first)}: more dimensions or float64 would separate them"
        )
    return f"{len(among):,} taxa with siblings, no two of them at one point"


def _targets(saved: _Saved) -> str:
    recorded = saved.meta.get("settings", {}).get("target_radius")
    made = saved.meta.get("layout", {})
    if recorded is None and made.get("lengths"):
        wanted = made["tau"] * torch.tensor(saved.taxonomy.tree.height)
        about = "τ times the branch lengths from the root"
    elif recorded is None:
        raise _NothingToCompareError("no target radii recorded")
    else:
        levels = saved.taxonomy.tree.max_depth + 1
        target = torch.tensor(recorded, dtype=torch.float64)
        if len(target) != levels:
            raise _FailedError(f"{len(target)} target radii for {levels} levels")
        if target[0] != 0 or not (target.diff() > 0).all():
            raise _FailedError("target radii do not start at 0 and grow from level to level")
        wanted = target[torch.from_numpy(saved.taxonomy.tree.depth.copy()).long()]
        about = f"the targets of {levels} levels"
    off = (saved.radius.double() - wanted).abs()
    slack = 4 * torch.finfo(saved.radius.dtype).eps * (1 + wanted)
    if (off > slack).any():
        worst = int(off.argmax())
        raise _FailedError(
            f"{int((off > slack).sum())} radii differ from the target of their depth, most of all "
            f"that of {saved.name(worst)}: {saved.radius[worst]:.4g} instead of {wanted[worst]:.4g}"
        )
    return f"radii equal {about}, from 0 to {wanted.max():.4g}"


def _configuration(saved: _Saved) -> str:
    meta = saved.meta
    settings = meta.get("settings")
    if not settings:
        raise _NothingToCompareError("no settings recorded")
    found = {
        "num_taxa": len(saved.frame),
        "dim": saved.direction.shape[1],
        "dtype": dtype_name(saved.direction.dtype),
    }
    for key, value in found.items():
        recorded = {"meta.json": meta.get(key), "settings": settings.get(key, value)}
        for place, entry in recorded.items():
            if entry != value:
                raise _FailedError(f"{place} has {key} {entry!r}, the files {value!r}")
    seed = settings.get("seed")
    if not isinstance(seed, int):
        raise _FailedError(
            f"seed {seed!r} is not a whole number: the embedding cannot be reproduced"
        )
    absent = [
        key for key in ("created", "library_version", "versions", "source") if key not in meta
    ]
    if absent:
        raise _FailedError(f"meta.json has no {', '.join(absent)}")
    source = meta["source"].get("format", "not from a file")
    return f"dim {found['dim']}, {found['dtype']}, seed {seed}, source: {source}"


_Check = tuple[tuple[str, ...], Callable[[_Saved], str]]
_CHECKS: dict[str, _Check] = {
    "files": ((), _files),
    "mapping": (("files",), _mapping),
    "self-loops": (("files",), _self_loops),
    "indices": (("mapping", "self-loops"), _indices),
    "depth": (("indices",), _depth),
    "projection": (("mapping",), _projection),
    "distance": (("indices", "projection"), _distance),
    "initialisation": (("indices", "projection"), _initialisation),
    "siblings": (("indices", "projection"), _siblings),
    "targets": (("depth", "projection"), _targets),
    "configuration": (("mapping",), _configuration),
}
_DAG_CHECKS: dict[str, _Check] = {
    "files": ((), _files),
    "mapping": (("files",), _mapping),
    "projection": (("mapping",), _projection),
    "pairs": (("mapping",), _pairs),
}
