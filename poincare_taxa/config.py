"""A training run as a file: TOML whose keys are the arguments of `fit`.

.. code-block:: toml

    source = "demo"             # as for `poincare-taxa embed`; or pairs_csv = "closure.csv"
    subtree = "Felidae"         # only a clade of it
    out = "felidae-10d"         # the embedding and its history
    checkpoint = "felidae-run"  # what --resume goes on with
    dim = 10
    epochs = 50

    [negatives]
    class = "UniformNegatives"
    num_negatives = 20

    [loss]
    class = "DepthMarginRankingLoss"
    margin = {class = "TreeMargin", tau = 1.0}

Without a block the recommended recipe runs. A block is a table with its ``class`` and the arguments
of its constructor; those that take a taxonomy are given the one of the file.
"""

import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from poincare_taxa import storage
from poincare_taxa.closure import ClosurePairs
from poincare_taxa.cones import EntailmentConeLoss
from poincare_taxa.curriculum import Curriculum
from poincare_taxa.early_stopping import EarlyStopping
from poincare_taxa.embedding import PoincareEmbedding
from poincare_taxa.losses import (
    DepthMarginRankingLoss,
    SoftmaxRankingLoss,
    StressLoss,
    TripletLoss,
)
from poincare_taxa.manifolds import PoincareBall, Polar
from poincare_taxa.margins import ConstantMargin, DepthMargin, TreeMargin
from poincare_taxa.negatives import CousinNegatives, SameDepthNegatives, UniformNegatives
from poincare_taxa.optimizers import RowwiseRiemannianAdam
from poincare_taxa.pairs import AncestorPairs, ParentChildPairs, StratifiedPairs
from poincare_taxa.regularizers import LinearRadius, NormRegularizer
from poincare_taxa.taxonomy import Taxonomy
from poincare_taxa.tiles import SharedNegatives
from poincare_taxa.training import Run, fit

__all__ = ["Config", "read_config"]

_OWN = ("source", "pairs_csv", "subtree", "out", "embedding")
_PLAIN = (
    "dim",
    "seed",
    "lr",
    "lr_schedule",
    "burn_in",
    "max_grad_norm",
    "project",
    "epochs",
    "steps_per_epoch",
    "batch_size",
    "measure_every",
    "checkpoint",
    "keep_last",
    "log_dir",
    "device",
)
_BLOCKS: dict[str, dict[str, Any]] = {
    "pairs": {"AncestorPairs": AncestorPairs, "ParentChildPairs": ParentChildPairs,
              "StratifiedPairs": StratifiedPairs},
    "negatives": {"UniformNegatives": UniformNegatives, "SameDepthNegatives": SameDepthNegatives,
                  "CousinNegatives": CousinNegatives, "SharedNegatives": SharedNegatives},
    "loss": {"DepthMarginRankingLoss": DepthMarginRankingLoss, "TripletLoss": TripletLoss,
             "SoftmaxRankingLoss": SoftmaxRankingLoss, "StressLoss": StressLoss,
             "EntailmentConeLoss": EntailmentConeLoss},
    "margin": {"ConstantMargin": ConstantMargin, "DepthMargin": DepthMargin,
               "TreeMargin": TreeMargin},
    "regularizer": {"NormRegularizer": NormRegularizer},
    "target": {"LinearRadius": LinearRadius},
    "curriculum": {"Curriculum": Curriculum},
    "early_stopping": {"EarlyStopping": EarlyStopping},
    "optimizer": {"RowwiseRiemannianAdam": RowwiseRiemannianAdam, "Adam": torch.optim.Adam,
                  "SGD": torch.optim.SGD},
}  # fmt: skip
_OVER_A_TREE = ("pairs", "negatives")
_MANIFOLDS: dict[str, Callable[[], Any]] = {"Polar": Polar, "PoincareBall": PoincareBall}
_DTYPES = {"float64": torch.float64, "float32": torch.float32}


class Config(NamedTuple):
    """What a file says."""

    path: Path
    options: Mapping[str, Any]

    @property
    def out(self) -> Path:
        """Folder of the result."""
        return Path(self.options["out"])

    def run(
        self, read: Callable[[str], Taxonomy], *, resume: bool = False, progress: bool | None = None
    ) -> Run:
        """Train.

        Parameters
        ----------
        read
            Reads a taxonomy: called with ``source``.
        resume
            Go on with the run in ``checkpoint``.
        progress
            As in `fit`.

        Raises
        ------
        ValueError
            If the file asks for what there is not; and as `fit`.
        """
        given = self.options
        if "pairs_csv" in given:
            source: Any = ClosurePairs.read_csv(given["pairs_csv"])
        else:
            source = read(given["source"])
            source = source.subtree(given["subtree"]) if "subtree" in given else source
        options = {key: given[key] for key in _PLAIN if key in given}
        if "lr_schedule" in options:
            options["lr_schedule"] = [tuple(step) for step in options["lr_schedule"]]
        for name in set(_BLOCKS) & set(given):
            options[name] = self._block(name, given[name], source)
        if "embedding" in given:
            options["embedding"] = self._embedding(given["embedding"], source, options)
        return fit(source, **options, resume=resume, progress=progress)

    def save(self, run: Run) -> None:
        """Write the folder ``out``: the model, or the points of a DAG, and ``history``."""
        if run.model is not None:
            run.model.save(self.out)
            run.history.write_csv(self.out / "history.csv")
            return
        pairs = ClosurePairs.read_csv(self.options["pairs_csv"])
        assert pairs.names is not None
        storage.write_folder(
            self.out,
            {"radius": run.embedding.radius.cpu(), "direction": run.embedding.direction.cpu()},
            {"nodes": pairs.names.to_frame(), "history": run.history},
            {"settings": dict(self.options)},
        )

    def _block(self, name: str, table: Any, source: Any) -> Any:
        known = _BLOCKS[name]
        if not isinstance(table, dict) or table.get("class") not in known:
            raise ValueError(
                f"{self.path}: {name} must be a table whose class is one of {', '.join(known)}; "
                f"got {table!r}"
            )
        make = known[table["class"]]
        options = {key: value for key, value in table.items() if key != "class"}
        for key in set(_BLOCKS) & set(options):
            options[key] = self._block(key, options[key], source)
        for key, value in options.items():
            if key in ("max_gap", "max_depth", "weight") and isinstance(value, list):
                # TOML has no null: [epoch] alone opens all
                options[key] = [(*step, None)[:2] for step in value]
            elif key == "betas":
                options[key] = tuple(value)
        if name == "optimizer":
            return partial(make, **options)
        try:
            return make(source, **options) if name in _OVER_A_TREE else make(**options)
        except TypeError as error:
            raise ValueError(f"{self.path}: {name}: {error}") from None

    def _embedding(
        self, table: dict[str, Any], source: Any, options: dict[str, Any]
    ) -> PoincareEmbedding:
        known = ("manifold", "dtype", "initial_radius")
        self._only(table, known, "embedding")
        nodes = source.num_nodes if isinstance(source, ClosurePairs) else len(source)
        try:
            manifold = _MANIFOLDS[table.get("manifold", "Polar")]()
            dtype = _DTYPES[table.get("dtype", "float64")]
        except KeyError as error:
            raise ValueError(
                f"{self.path}: embedding: {error} is none of {', '.join((*_MANIFOLDS, *_DTYPES))}"
            ) from None
        return PoincareEmbedding(
            nodes,
            options.get("dim", 10),
            manifold=manifold,
            dtype=dtype,
            initial_radius=table.get("initial_radius", 0.01),
            generator=torch.Generator().manual_seed(options.get("seed", 0)),
        )

    def _only(self, table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
        unknown = sorted(set(table) - set(known))
        if unknown:
            raise ValueError(
                f"{self.path}: unknown {where} key{'s' if len(unknown) > 1 else ''} "
                f"{', '.join(unknown)}; known are {', '.join(sorted(known))}"
            )


def read_config(path: str | Path) -> Config:
    r"""Read a file and check its keys.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not TOML, has a key that is not known, or lacks one that is needed.

    Examples
    --------
    >>> path = getfixture("tmp_path") / "run.toml"
    >>> _ = path.write_text('source = "demo"\nout = "mammals"\ndim = 5')
    >>> read_config(path).options["dim"]
    5
    """
    path = Path(path)
    try:
        options = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    config = Config(path, options)
    top = tuple(key for key in _BLOCKS if key not in ("margin", "target"))
    config._only(options, (*_OWN, *_PLAIN, *top), "config")
    if "out" not in options or ("source" in options) == ("pairs_csv" in options):
        raise ValueError(
            f"{path} must say out, and either source (a taxonomy) or pairs_csv (a DAG's pairs)"
        )
    return config
