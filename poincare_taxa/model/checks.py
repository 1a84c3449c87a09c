"""Does a saved embedding still say what it claims? Eleven checks of the folder, nothing trusted.

Each check recomputes something from the files and compares it with something else that they say.
A check whose premises failed is skipped and names them, so the first failure is the one to read.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from poincare_taxa.files.records import dtype_name
from poincare_taxa.geometry import convert, polar
from poincare_taxa.layouts.tree import layout, layout_in_layers
from poincare_taxa.model import storage
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

__all__ = ["CheckResult", "check"]

_SAMPLE = 1000
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Attributes
    ----------
    name
        Which check.
    status
        "passed", "failed", or "skipped": a premise failed, or there is nothing to compare with.
    detail
        What was compared, or what is wrong, in a sentence.
    """

    name: str
    status: Literal["passed", "failed", "skipped"]
    detail: str

    def to_dict(self) -> dict[str, str]:
        """Return the fields as what JSON can hold."""
        return asdict(self)


def check(path: str | Path) -> list[CheckResult]:
    """Verify a saved embedding and its taxonomy.

    ==============  ==============================================================================
    files           every file is there, readable, and has the SHA-256 of when it was written
    mapping         one point per taxon; ids are unique and none is missing
    self-loops      no taxon is its own parent
    indices         every parent is a row, one root, rows in preorder
    depth           every taxon lies further out than its parent
    projection      unit directions, finite radii, every point strictly inside the ball
    distance        recorded distances are found again; it is a metric on a sample
    initialisation  the recorded settings give these directions again
    siblings        no two children of one parent share a point
    targets         target radii start at 0 and grow with depth; every radius has its target
    configuration   recorded dim, dtype, number of taxa, seed and source fit the files
    ==============  ==============================================================================

    Parameters
    ----------
    path
        Folder of a saved embedding.

    Returns
    -------
    results
        One for each line of the table, in this order.

    Raises
    ------
    FileNotFoundError, ValueError
        If `path` holds no ``meta.json`` of an embedding to start from, or that of a DAG.
    """
    saved = _Saved(Path(path), storage.read_meta(path))
    storage.refuse_dag(path, saved.meta)
    results: dict[str, CheckResult] = {}
    for name, (needs, verify) in _CHECKS.items():
        failed = [need for need in needs if results[need].status != "passed"]
        if failed:
            results[name] = CheckResult(name, "skipped", f"needs {', '.join(failed)}")
            continue
        try:
            results[name] = CheckResult(name, "passed", verify(saved))
        except _FailedError as failure:
            results[name] = CheckResult(name, "failed", str(failure))
        except _NothingToCompareError as reason:
            results[name] = CheckResult(name, "skipped", str(reason))
    return list(results.values())


class _FailedError(Exception):
    pass


class _NothingToCompareError(Exception):
    pass


@dataclass(frozen=True)
class _Saved:
    path: Path
    meta: dict[str, Any]

    @cached_property
    def frame(self) -> pl.DataFrame:
        return storage.read_table(self.path, "taxonomy")

    @cached_property
    def taxonomy(self) -> Taxonomy:
        return Taxonomy.from_frame(self.frame)

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
        return np.random.default_rng(0).integers(len(self.radius), size=(size, _SAMPLE))

    def at(self, rows: Any) -> tuple[Tensor, Tensor]:
        return self.radius[rows].double(), self.direction[rows].double()

    def name(self, row: int) -> str:
        return f"row {row} (id {self.frame['id'][row]}, {self.frame['name'][row]})"


def _files(saved: _Saved) -> str:
    problems = storage.file_problems(saved.path, saved.meta)
    try:
        columns, tensors = set(saved.frame.columns), set(saved.points)
    except (OSError, ValueError) as error:
        problems.append(str(error))
    else:
        if missing := {"id", "parent", "name", "taxon_rank"} - columns:
            problems.append(f"taxonomy.parquet has no column {', '.join(sorted(missing))}")
        if missing := {"radius", "direction"} - tensors:
            problems.append(f"points.safetensors has no {', '.join(sorted(missing))}")
    if problems:
        raise _FailedError("; ".join(problems))
    return f"{len(saved.meta['files'])} files as they were written"


def _mapping(saved: _Saved) -> str:
    ids, r, u = saved.frame["id"], saved.radius, saved.direction
    if r.ndim != 1 or u.ndim != 2 or not len(ids) == len(r) == len(u):
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
    except TaxonomyError as error:
        raise _FailedError(str(error)) from None
    moved = (taxonomy.ids != saved.frame["id"]).to_numpy()
    if moved.any():
        raise _FailedError(f"rows are not in preorder from {saved.name(int(moved.argmax()))} on")
    return f"one root, every parent known, rows in preorder, {taxonomy.max_depth + 1} levels"


def _depth(saved: _Saved) -> str:
    parent, r = torch.from_numpy(saved.taxonomy.parent[1:].copy()).long(), saved.radius
    inwards = r[1:] <= r[parent]
    if inwards.any():
        row = 1 + int(inwards.long().argmax())
        raise _FailedError(
            f"{int(inwards.sum())} taxa lie no further out than their parent, the first is "
            f"{saved.name(row)}: radius {r[row]:.4g} under {r[parent[row - 1]]:.4g}"
        )
    return "every taxon lies further out than its parent"


def _projection(saved: _Saved) -> str:
    r, u = saved.radius, saved.direction
    if not (r.isfinite().all() and u.isfinite().all()):
        row = int((~(r.isfinite() & u.isfinite().all(1))).long().argmax())
        raise _FailedError(f"some coordinates are not finite, the first of {saved.name(row)}")
    if (r < 0).any():
        raise _FailedError(f"negative radius in {saved.name(int(r.argmin()))}")
    # 16 eps is what the layout allows itself; each square and each sum of them may round once more.
    excess = (u.double().square().sum(1) - 1).abs()
    if excess.max() > (16 + u.shape[1]) * torch.finfo(u.dtype).eps:
        worst = int(excess.argmax())
        raise _FailedError(f"the direction of {saved.name(worst)} is not a unit vector")
    for dtype in (torch.float32, torch.float64):
        norm = torch.linalg.vector_norm(convert.polar_to_ball(r.to(dtype), u.to(dtype)), dim=1)
        if not (norm < 1).all():
            raise _FailedError(
                f"in {dtype}, {saved.name(int(norm.argmax()))} is not inside the ball"
            )
    return f"all inside the ball, radius up to {r.max():.4g}"


def _distance(saved: _Saved) -> str:
    a, b, c = saved.sample(3)
    ab, bc, ac = (polar.dist(*saved.at(i), *saved.at(j)) for i, j in ((a, b), (b, c), (a, c)))
    # A few roundings of numbers as large as the radii.
    slack = 64 * torch.finfo(torch.float64).eps * (1 + saved.radius.max().double())
    if polar.dist(*saved.at(a), *saved.at(a)).max() > 0:
        raise _FailedError("a taxon has a distance from itself")
    if (ab - polar.dist(*saved.at(b), *saved.at(a))).abs().max() > slack:
        raise _FailedError("distances are not symmetric")
    if (ac > ab + bc + slack).any():
        raise _FailedError(
            "distances break the triangle inequality: directions are not unit vectors"
        )
    probe = saved.meta.get("probe")
    if not probe:
        raise _NothingToCompareError("no recorded distances to compare with")
    rows = (saved.taxonomy.nodes(pl.Series(probe[end])) for end in ("a", "b"))
    recorded = torch.tensor(probe["distance"], dtype=torch.float64)
    off = (polar.dist(*saved.at(next(rows)), *saved.at(next(rows))) - recorded).abs()
    if off.max() > slack:
        worst = int(off.argmax())
        raise _FailedError(
            f"{int((off > slack).sum())} of {len(off)} recorded distances differ, the most between "
            f"ids {probe['a'][worst]} and {probe['b'][worst]}, by {off[worst]:.3g}"
        )
    return f"a metric on {_SAMPLE:,} triples; {len(off)} recorded distances found again"


def _initialisation(saved: _Saved) -> str:
    settings = saved.meta.get("settings", {})
    method, made = settings.get("method"), saved.meta.get("layout", {})
    if method not in ("layout", "refined layout"):
        raise _NothingToCompareError("not made by a layout from recorded settings")
    dim, dtype, seed = settings["dim"], _DTYPES[settings["dtype"]], settings["seed"]
    if any(proposal["kept"] for proposal in made.get("passes", [])[1:]):
        again = layout_in_layers(saved.taxonomy, dim, made["tau"], dtype, seed)
    else:
        again = layout(saved.taxonomy, dim, dtype=dtype, seed=seed)
    if again.direction.shape != saved.direction.shape:
        raise _FailedError(f"the settings give {list(again.direction.shape)} coordinates")
    # The same operations round differently on another processor, by an ulp on each level.
    slack = (4 + saved.taxonomy.max_depth) * torch.finfo(dtype).eps
    off = (again.direction.double() - saved.direction.double()).abs().amax(1)
    if off.max() > slack:
        raise _FailedError(
            f"{int((off > slack).sum())} directions are not those that dim {dim}, "
            f"{settings['dtype']}, seed {seed} give, the first that of "
            f"{saved.name(int((off > slack).long().argmax()))}"
        )
    return f"dim {dim}, {settings['dtype']}, seed {seed} give these directions again"


def _siblings(saved: _Saved) -> str:
    parent = saved.taxonomy.parent
    among = np.flatnonzero(np.append(False, saved.taxonomy.num_children[parent[1:]] > 1))
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
            f"is {saved.name(first)}: more dimensions or float64 would tell them apart"
        )
    return f"{len(among):,} taxa with siblings, all at points of their own"


def _targets(saved: _Saved) -> str:
    recorded = saved.meta.get("settings", {}).get("target_radius")
    if recorded is None:
        raise _NothingToCompareError("no target radii recorded")
    levels = saved.taxonomy.max_depth + 1
    target = torch.tensor(recorded, dtype=torch.float64)
    if len(target) != levels:
        raise _FailedError(f"{len(target)} target radii for {levels} levels")
    if target[0] != 0 or not (target.diff() > 0).all():
        raise _FailedError("target radii do not start at 0 and grow from level to level")
    wanted = target[torch.from_numpy(saved.taxonomy.depth.copy()).long()]
    off = (saved.radius.double() - wanted).abs()
    slack = 4 * torch.finfo(saved.radius.dtype).eps * (1 + wanted)
    if (off > slack).any():
        worst = int(off.argmax())
        raise _FailedError(
            f"{int((off > slack).sum())} radii miss the target of their depth, the most "
            f"{saved.name(worst)}: {saved.radius[worst]:.4g} instead of {wanted[worst]:.4g}"
        )
    return f"radii follow {levels} targets, from 0 to {target[-1]:.4g}"


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
        for where, said in (("meta.json", meta.get(key)), ("settings", settings.get(key, value))):
            if said != value:
                raise _FailedError(f"{where} says {key} {said!r}; the files have {value!r}")
    if saved.radius.dtype != saved.direction.dtype:
        raise _FailedError("radius and direction differ in dtype")
    seed = settings.get("seed")
    if not isinstance(seed, int):
        raise _FailedError(
            f"seed {seed!r} is not a whole number: the embedding cannot be made again"
        )
    absent = [
        key for key in ("created", "library_version", "versions", "source") if key not in meta
    ]
    if absent:
        raise _FailedError(f"meta.json does not say: {', '.join(absent)}")
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
