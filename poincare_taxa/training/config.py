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

Without a block the recommended recipe runs. A block is a table with its ``class``, a public name of
`poincare_taxa.blocks` or `poincare_taxa.training`, and the arguments of its constructor; those that
take a taxonomy are given the one of the file. An optimizer may also be one of `torch.optim`. Parts
of a mixture are a list of such tables. TOML has neither None nor tuples, so that

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
from collections.abc import Callable, Collection, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch

from poincare_taxa import blocks, training
from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.blocks.embedding import PoincareEmbedding
from poincare_taxa.blocks.manifolds import PoincareBall, Polar
from poincare_taxa.files.atomic import replace_folder
from poincare_taxa.model.storage import ensure_writable, keep_foreign
from poincare_taxa.processes.group import Processes
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.training.run import Run, fit

__all__ = ["Config", "instantiate", "read_config"]

_OWN = {"source": str, "pairs_csv": str, "out": str}
"""Keys that are no arguments of `fit`, besides ``subtree`` and ``embedding``."""
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
_ENDINGS = {
    "pairs": "Pairs",
    "negatives": "Negatives",
    "loss": "Loss",
    "regularizer": "Regularizer",
    "curriculum": "Curriculum",
    "early_stopping": "EarlyStopping",
    "lr_schedule": "Cosine",
    "callback": "TensorBoard",
    "margin": "Margin",
    "target": "Radius",
    "sources": "Pairs",
    "samplers": "Negatives",
}
"""Key of a block or of a part of one → how the names of the classes end that fit there."""
_GIVEN = {"taxonomy", "source", "params"}
"""Arguments that a file cannot name."""
_SCHEDULES = ("lr_schedule", "max_gap", "max_depth", "weight")
_MANIFOLDS: dict[str, Callable[[], Any]] = {"Polar": Polar, "PoincareBall": PoincareBall}
_DEEPEST = 20  # parts of a key
_DTYPES = {"float64": torch.float64, "float32": torch.float32}
_REMOVED = {
    "burn_in": "write lr_schedule = [[0, 0.1], [10, 1.0]] for a tenth of the step in 10 epochs",
    "measure_every": "leave it out, every epoch is measured",
    "log_dir": 'write callback = {class = "TensorBoard", log_dir = "…"}',
}


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
    ) -> Run[Any]:
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
        options = {key: given[key] for key in _plain_arguments() if key in given}
        try:
            for key in _block_arguments() & given.keys():
                options[key] = _value(key, given[key], source)
            if "embedding" in given:
                options["embedding"] = _embedding(given["embedding"], source, options)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None
        return fit(source, **options, resume=resume, progress=progress)

    def save(self, run: Run[Any]) -> None:
        """Write the folder ``out`` in one atomic step: the model and ``history.csv``.

        Of several processes the first one writes, and the others wait.
        """
        Processes.joined().once(lambda: self._save(run))

    def _save(self, run: Run[Any]) -> None:
        ensure_writable(self.out)
        with replace_folder(self.out) as draft:
            run.model.save(draft)
            run.history.write_csv(draft / "history.csv")
            keep_foreign(self.out, draft)


@cache
def _plain_arguments() -> dict[str, type]:
    """Arguments of `fit` that are a number, a truth value or a text → their type."""
    types = {
        name: get_args(p.annotation) or (p.annotation,) for name, p in _parameters(fit).items()
    }
    kinds = {name: [kind for kind in _KINDS if kind in types[name]] for name in types}
    return {name: kind[0] for name, kind in kinds.items() if kind}


@cache
def _block_arguments() -> set[str]:
    """Arguments of `fit` that are blocks."""
    return {"optimizer", *(_ENDINGS.keys() & _parameters(fit).keys())}


def _parameters(make: Any) -> Mapping[str, inspect.Parameter]:
    """Parameters that a file can give."""
    known = inspect.signature(make).parameters
    return {name: known[name] for name in known if name not in ("resume", "progress")}


def _classes(key: str) -> dict[str, Any]:
    """Name → class, or a class method that makes one, of the public classes that fit a key."""
    known: dict[str, Any]
    if key == "optimizer":
        theirs = {n: c for n, c in vars(torch.optim).items() if isinstance(c, type)}
        known = {"RowwiseRiemannianAdam": blocks.RowwiseRiemannianAdam, **theirs}
        known = {name: known[name] for name in sorted(known) if name != "Optimizer"}
    else:
        rooms = {name: room for room in (blocks, training) for name in room.__all__}
        ours = sorted(name for name in rooms if name.endswith(_ENDINGS[key]))
        known = {name: getattr(rooms[name], name) for name in ours}
        known.pop("ClosurePairs", None)  # a source, given as pairs_csv
    found: dict[str, Any] = {}
    for name, made in known.items():
        if not getattr(made, "_is_protocol", False):
            found[name] = made
            methods = [key for key, value in vars(made).items() if isinstance(value, classmethod)]
            found |= {f"{name}.{method}": getattr(made, method) for method in methods}
    return found


def instantiate(key: str, table: Any, source: Any) -> Any:
    """Make a block from a table.

    Parameters
    ----------
    key
        Argument that it is for, such as ``"loss"``: it decides which classes fit.
    table
        ``class``, a public name of `poincare_taxa.blocks` or `poincare_taxa.training` (of
        `torch.optim` too for an optimizer), and arguments of its constructor.
    source
        Taxonomy or pairs, given to a constructor that takes one.

    Returns
    -------
    block
        An optimizer is a callable of the parameters to optimise.

    Raises
    ------
    ValueError
        If there is no such class, or it cannot be made from these arguments.

    Examples
    --------
    >>> tax = Taxonomy.from_parents([-1, 0, 0])
    >>> table = {"class": "DepthMarginRankingLoss", "margin": {"class": "TreeMargin", "tau": 0.5}}
    >>> instantiate("loss", table, tax).margin
    TreeMargin(tau=0.5)
    """
    known = _classes(key)
    if not isinstance(table, dict) or table.get("class") not in known:
        raise ValueError(
            f"{key} must be a table whose class is one of {', '.join(known)}; got {table!r}"
        )
    make, where = known[table["class"]], f"{key} {table['class']}: "
    takes = inspect.signature(make).parameters
    given = {name: value for name, value in table.items() if name != "class"}
    _require_known(given, takes.keys() - _GIVEN, where)
    options = {name: _value(name, value, source) for name, value in given.items()}
    if "params" in takes:
        return partial(make, **options)
    if "taxonomy" in takes and isinstance(source, ClosurePairs):
        raise ValueError(f"{where}it takes a taxonomy, and pairs_csv is none")
    options |= dict.fromkeys(_GIVEN & takes.keys(), source)
    try:
        return make(**options)
    except TypeError as error:
        raise ValueError(f"{where}a value is missing or of another type: {error}") from None
    except (ValueError, ImportError) as error:
        raise type(error)(f"{where}{error}") from None


def _value(key: str, value: Any, source: Any) -> Any:
    """Turn what TOML has into what a constructor takes."""
    if key in _SCHEDULES and isinstance(value, list):
        try:
            return [(*step, None)[:2] for step in value]
        except TypeError:
            raise ValueError(f"{key} is a list of [epoch, value]; got {value!r}") from None
    if key == "shares" and isinstance(value, dict):
        return {_stratum(name): share for name, share in value.items()}
    if key == "betas":
        return tuple(value)
    if key in ("sources", "samplers", "callback") and isinstance(value, list):
        return [instantiate(key, table, source) for table in value]
    if key in _ENDINGS or key == "optimizer":
        return instantiate(key, value, source)
    return value


def _embedding(table: Any, source: Any, options: dict[str, Any]) -> PoincareEmbedding:
    if not isinstance(table, dict):
        raise ValueError(f"embedding must be a table; got {table!r}")
    _require_known(table, {"manifold", "dtype", "initial_radius"}, "embedding: ")
    nodes = source.num_nodes if isinstance(source, ClosurePairs) else len(source)
    try:
        manifold = _MANIFOLDS[table.get("manifold", "Polar")]()
        dtype = _DTYPES[table.get("dtype", "float64")]
    except KeyError as error:
        raise ValueError(
            f"embedding: {error} is none of {', '.join((*_MANIFOLDS, *_DTYPES))}"
        ) from None
    return PoincareEmbedding(
        nodes,
        options.get("dim", 10),
        manifold=manifold,
        dtype=dtype,
        initial_radius=table.get("initial_radius", 0.01),
        generator=torch.Generator().manual_seed(options.get("seed", 0)),
    )


def _require_known(table: Mapping[str, Any], known: Collection[str], where: str) -> None:
    unknown = sorted(set(table) - set(known))
    if unknown:
        advice = "".join(
            f"; {key} was removed: {_REMOVED[key]}"
            for key in unknown
            if not where and key in _REMOVED
        )
        raise ValueError(
            f"{where}unknown key{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}{advice}; "
            f"known are {', '.join(sorted(known))}"
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
        text = path.read_text(encoding="utf-8")
        _require_shallow(text)
        options = tomllib.loads(text)
    except OSError as error:
        raise type(error)(
            f"{path} cannot be read ({error.strerror}): is the path right?"
        ) from error
    except (ValueError, RecursionError) as error:  # of TOML, or of UTF-8
        raise ValueError(f"{path} is not TOML: {error}") from None
    plain = _OWN | _plain_arguments()
    try:
        _require_known(options, {*plain, *_block_arguments(), "subtree", "embedding"}, "")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    for key, kind in plain.items():
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
    return Config(path, options)


def _require_shallow(text: str) -> None:
    """Refuse what takes memory by the square of its length: keys of very many parts (a.b.c…)."""
    for part in re.split(r"[=,{\n]", text):
        if part.count(".") > _DEEPEST:
            raise ValueError(f"a key of more than {_DEEPEST} parts: {part.strip()[:40]}…")


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
