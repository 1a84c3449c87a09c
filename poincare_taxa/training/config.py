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
of its constructor; those that take a taxonomy are given the one of the file. Parts of a mixture are
a list of such tables. TOML has neither None nor tuples, so that

- a schedule is a list ``[[0, 1.0], [20, 0.1]]``, in which ``[20]`` alone means no limit from then
  on (or, for ``lr_schedule``, a table: ``{class = "Cosine", period = 50}``);
- keys of ``shares`` are ``"2"``, ``"2-4"``, ``"5-"`` (5 and more), or names of strata.

.. code-block:: toml

    lr_schedule = {class = "Cosine", period = 50}

    [pairs]
    class = "MixedPairs"
    shares = [0.5, 0.5]
    sources = [
        {class = "ParentChildPairs"},
        {class = "StratifiedPairs", shares = {"2-3" = 0.3, "4-" = 0.7}},
    ]

    [negatives]
    class = "MixedNegatives"
    samplers = [
        {class = "CousinNegatives", num_negatives = 10, levels = 2},
        {class = "UniformNegatives", num_negatives = 10},
    ]

    [curriculum]
    class = "Curriculum.top_down"
    epochs = 50
"""

import inspect
import re
import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.blocks.cones import EntailmentConeLoss
from poincare_taxa.blocks.curriculum import Curriculum
from poincare_taxa.blocks.embedding import PoincareEmbedding
from poincare_taxa.blocks.losses import (
    DepthMarginRankingLoss,
    SoftmaxRankingLoss,
    StressLoss,
    TripletLoss,
)
from poincare_taxa.blocks.manifolds import PoincareBall, Polar
from poincare_taxa.blocks.margins import ConstantMargin, DepthMargin, TreeMargin
from poincare_taxa.blocks.negatives import (
    CousinNegatives,
    MixedNegatives,
    SameDepthNegatives,
    SharedNegatives,
    UniformNegatives,
)
from poincare_taxa.blocks.optimizers import RowwiseRiemannianAdam
from poincare_taxa.blocks.pairs import AncestorPairs, MixedPairs, ParentChildPairs, StratifiedPairs
from poincare_taxa.blocks.regularizers import LinearRadius, NormRegularizer
from poincare_taxa.blocks.schedules import Cosine
from poincare_taxa.files.atomic import replace_file
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.training.early_stopping import EarlyStopping
from poincare_taxa.training.run import Run, fit

__all__ = ["Config", "read_config"]

_OWN = ("source", "pairs_csv", "subtree", "out", "embedding")
_TEXTS = {"source": str, "pairs_csv": str, "out": str}
_PLAIN: dict[str, type] = {
    "dim": int,
    "seed": int,
    "lr": float,
    "burn_in": int,
    "max_grad_norm": float,
    "project": bool,
    "epochs": int,
    "steps_per_epoch": int,
    "batch_size": int,
    "measure_every": int,
    "checkpoint": str,
    "keep_last": int,
    "log_dir": str,
    "device": str,
}
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
_BLOCKS: dict[str, dict[str, Any]] = {
    "pairs": {"AncestorPairs": AncestorPairs, "ParentChildPairs": ParentChildPairs,
              "StratifiedPairs": StratifiedPairs, "MixedPairs": MixedPairs},
    "negatives": {"UniformNegatives": UniformNegatives, "SameDepthNegatives": SameDepthNegatives,
                  "CousinNegatives": CousinNegatives, "SharedNegatives": SharedNegatives,
                  "MixedNegatives": MixedNegatives},
    "loss": {"DepthMarginRankingLoss": DepthMarginRankingLoss, "TripletLoss": TripletLoss,
             "SoftmaxRankingLoss": SoftmaxRankingLoss, "StressLoss": StressLoss,
             "EntailmentConeLoss": EntailmentConeLoss},
    "regularizer": {"NormRegularizer": NormRegularizer},
    "curriculum": {"Curriculum": Curriculum, "Curriculum.top_down": Curriculum.top_down,
                   "Curriculum.progressive": Curriculum.progressive},
    "early_stopping": {"EarlyStopping": EarlyStopping},
    "optimizer": {"RowwiseRiemannianAdam": RowwiseRiemannianAdam, "Adam": torch.optim.Adam,
                  "SGD": torch.optim.SGD},
    "lr_schedule": {"Cosine": Cosine},
}  # fmt: skip
_PARTS: dict[str, dict[str, Any]] = {
    "margin": {"ConstantMargin": ConstantMargin, "DepthMargin": DepthMargin,
               "TreeMargin": TreeMargin},
    "target": {"LinearRadius": LinearRadius},
    "sources": _BLOCKS["pairs"],
    "samplers": _BLOCKS["negatives"],
}  # fmt: skip
_GIVEN = {"taxonomy", "source", "params"}
"""Arguments that a file cannot name."""
_SCHEDULES = ("lr_schedule", "max_gap", "max_depth", "weight")
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
        for name in _BLOCKS:
            if name in given:
                options[name] = self._value(name, given[name], source)
        if "embedding" in given:
            options["embedding"] = self._embedding(given["embedding"], source, options)
        return fit(source, **options, resume=resume, progress=progress)

    def save(self, run: Run) -> None:
        """Write the folder ``out``: the model and ``history.csv``."""
        run.model.save(self.out)
        with replace_file(self.out / "history.csv") as draft:
            run.history.write_csv(draft)

    def _value(self, key: str, value: Any, source: Any) -> Any:
        """Turn what TOML says into what a constructor takes."""
        if key in _SCHEDULES and isinstance(value, list):
            try:
                return [(*step, None)[:2] for step in value]
            except TypeError:
                raise ValueError(
                    f"{self.path}: {key} is a list of [epoch, value]; got {value!r}"
                ) from None
        if key == "shares" and isinstance(value, dict):
            return {_stratum(name): share for name, share in value.items()}
        if key == "betas":
            return tuple(value)
        known = _BLOCKS.get(key) or _PARTS.get(key)
        if known is None:
            return value
        if key in ("sources", "samplers") and isinstance(value, list):
            return [self._block(key, known, table, source) for table in value]
        return self._block(key, known, value, source)

    def _block(self, name: str, known: Mapping[str, Any], table: Any, source: Any) -> Any:
        if not isinstance(table, dict) or table.get("class") not in known:
            raise ValueError(
                f"{self.path}: {name} must be a table whose class is one of {', '.join(known)}; "
                f"got {table!r}"
            )
        make, where = known[table["class"]], f"{name} {table['class']}: "
        takes = inspect.signature(make).parameters
        said = {key: value for key, value in table.items() if key != "class"}
        self._only(said, tuple(key for key in takes if key not in _GIVEN), where)
        options = {key: self._value(key, value, source) for key, value in said.items()}
        if "params" in takes:
            return partial(make, **options)
        for key in _GIVEN & set(takes):
            options[key] = source
            if key == "taxonomy" and isinstance(source, ClosurePairs):
                raise ValueError(f"{self.path}: {where}it takes a taxonomy, and pairs_csv is none")
        try:
            return make(**options)
        except TypeError as error:
            raise ValueError(
                f"{self.path}: {where}a value is missing or of another type: {error}"
            ) from None
        except ValueError as error:
            raise ValueError(f"{self.path}: {where}{error}") from None

    def _embedding(self, table: Any, source: Any, options: dict[str, Any]) -> PoincareEmbedding:
        known = ("manifold", "dtype", "initial_radius")
        if not isinstance(table, dict):
            raise ValueError(f"{self.path}: embedding must be a table; got {table!r}")
        self._only(table, known, "embedding: ")
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
                f"{self.path}: {where}unknown key{'s' if len(unknown) > 1 else ''} "
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
    except OSError as error:
        raise type(error)(
            f"{path} cannot be read ({error.strerror}): is the path right?"
        ) from error
    except ValueError as error:  # of TOML, or of UTF-8
        raise ValueError(f"{path} is not TOML: {error}") from None
    config = Config(path, options)
    config._only(options, (*_OWN, *_PLAIN, *_BLOCKS), "")
    for key, kind in (_PLAIN | _TEXTS).items():
        if key in options and not _is(options[key], kind):
            raise ValueError(f"{path}: {key} must be {_KINDS[kind]}; got {options[key]!r}")
    if "out" not in options or ("source" in options) == ("pairs_csv" in options):
        raise ValueError(
            f"{path} must say out, and either source (a taxonomy) or pairs_csv (a DAG's pairs)"
        )
    if "subtree" in options and ("source" not in options or not _is_key(options["subtree"])):
        raise ValueError(
            f"{path}: subtree is an id or a name in the taxonomy of source; got "
            f"{options['subtree']!r}"
        )
    return config


def _is(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


def _is_key(value: Any) -> bool:
    return _is(value, str) or _is(value, int)


def _stratum(name: str) -> str | int | tuple[int, int | None]:
    """Read "2", "2-4" and "5-"; another name is left as it is."""
    match = re.fullmatch(r"(\d+)(-(\d*))?", name)
    if match is None:
        return name
    least = int(match[1])
    if match[2] is None:
        return least
    return least, int(match[3]) if match[3] else None
