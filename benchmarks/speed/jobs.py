"""Whole training jobs: pairs per second with 50 negatives, beside gensim's and facebookresearch's.

All train on the same pairs (descendant, ancestor), of WordNet or of a synthetic taxonomy, in 10
dimensions, one thread each; whole steps: sampling, loss, gradient, optimizer. A job counts only if
it learned: the loss that it reports must have fallen, and, of this library and gensim, the mean
average precision of the ancestors risen. facebookresearch/poincare-embeddings is run from the
user's own checkout (CC-BY-NC: nothing of it is here).
"""

import math
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

import poincare_taxa as pt
from benchmarks.measure import Rows, UnavailableError, WrongAnswerError, stopwatch
from poincare_taxa.geometry import convert
from poincare_taxa.kernels import ranking_loss
from poincare_taxa.testing import synthetic_taxonomy

NEGATIVES, DIM = 50, 10
BASELINE = "facebookresearch"
SMALL = 20_000
"""Nodes up to which all ancestors are ranked, to see whether a job learned."""

Job = Callable[[pt.ClosurePairs, int], float]
"""Train for some epochs: seconds of the fastest, which other processes disturbed least."""


def closure(taxonomy: pt.Taxonomy) -> np.ndarray:
    """All pairs (descendant, ancestor), [pairs, 2]."""
    child, above = np.arange(len(taxonomy)), taxonomy.parent
    found = []
    while (above >= 0).any():
        child, above = child[above >= 0], above[above >= 0]
        found.append(np.stack([child, above], axis=1))
        above = taxonomy.parent[above]
    return np.concatenate(found)


def synthetic(taxa: int) -> pt.ClosurePairs:
    """All pairs of a synthetic taxonomy."""
    return pt.ClosurePairs(closure(synthetic_taxonomy(taxa))[:, ::-1].copy(), num_nodes=taxa)


def this_library(
    pairs: pt.ClosurePairs, epochs: int, *, batch: int = 4096, shared: bool = False
) -> float:
    """Draw pairs and negatives, softmax loss, row-wise Riemannian Adam: the documented loop."""
    generator = torch.Generator().manual_seed(0)
    embedding = pt.PoincareEmbedding(pairs.num_nodes, DIM, sparse=True, generator=generator)
    optimizer = pt.RowwiseRiemannianAdam(embedding.parameters(), lr=0.03)
    sampler = pt.UniformNegatives(pairs, NEGATIVES, exclude="positives")
    tile = pt.SharedNegatives(pairs, NEGATIVES, exclude="positives")
    start = average_precision(pairs, embedding.radius, embedding.direction)
    losses = []

    def step() -> None:
        drawn = pairs.sample(batch, generator=generator)
        if shared:
            nodes, valid, _ = tile.tile(drawn, generator)
        else:
            nodes = sampler(drawn, generator)
            nodes, valid = nodes.clamp(min=0), nodes >= 0
        loss = ranking_loss(
            embedding.weight,
            drawn[:, 1],
            drawn[:, 0],
            nodes,
            valid=valid,
            manifold="polar",
            sparse=True,
        ).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    step()
    steps = max(5, round(len(pairs) / batch))
    seconds = [_timed(lambda: [step() for _ in range(steps)]) for _ in range(max(epochs, 5))]
    _ensure_learned(losses)
    _ensure_above(start, average_precision(pairs, embedding.radius, embedding.direction))
    return min(seconds) * len(pairs) / (steps * batch)


def nearest_ancestors(pairs: pt.ClosurePairs) -> Tensor:
    """One pair of each descendant: that with the ancestor which has the fewest descendants."""
    size = torch.bincount(pairs.pairs[:, 0], minlength=pairs.num_nodes)[pairs.pairs[:, 0]]
    order = size.argsort(stable=True)
    order = order[pairs.pairs[order, 1].argsort(stable=True)]
    descendant = pairs.pairs[order, 1]
    first = torch.cat((descendant[:1] >= 0, descendant.diff() != 0))
    return pairs.pairs[order[first]]


def gensim(pairs: pt.ClosurePairs, epochs: int) -> float:
    """Train on the nearest ancestors alone.

    gensim draws negatives in proportion to how often a node occurs, all 50 anew until none of them
    is an ancestor. Of a closure, or of children of one parent by the hundred, that is never.
    """
    try:
        from gensim.models.poincare import PoincareModel
    except ImportError as error:
        raise UnavailableError(f"not installed ({error.name})") from None
    edges = nearest_ancestors(pairs)
    relations = [(str(v), str(u)) for u, v in edges.tolist()]
    model = PoincareModel(relations, size=DIM, negative=NEGATIVES, burn_in=0, seed=0)

    def measured() -> float:
        points = torch.zeros(pairs.num_nodes, DIM, dtype=torch.float64)
        rows = [int(name) for name in model.kv.index_to_key]
        points[rows] = torch.from_numpy(model.kv.vectors).double()
        return average_precision(pairs, *convert.ball_to_polar(points))

    start = measured()
    train = partial(model.train, epochs=1, batch_size=NEGATIVES)
    with patience(60):
        seconds = [_timed(train) for _ in range(epochs)]
    _ensure_above(start, measured())
    return min(seconds) * len(pairs) / len(edges)


def facebook(pairs: pt.ClosurePairs, epochs: int, *, checkout: Path | None, python: Path) -> float:
    """Run embed.py of the user's checkout; its log says what an epoch took."""
    if checkout is None or not (checkout / "embed.py").exists():
        raise UnavailableError("no checkout: give --facebook FOLDER and --facebook-python PROGRAM")
    with TemporaryDirectory() as folder:
        data, empty = Path(folder) / "closure.csv", Path(folder) / "hypernymysuite"
        rows = "".join(f"n{v},n{u},1\n" for u, v in pairs.pairs.tolist())
        data.write_text("id1,id2,weight\n" + rows)
        # Imported by embed.py for an evaluation that is not run here.
        empty.mkdir()
        for name in ("__init__.py", "base.py", "evaluation.py"):
            (empty / name).write_text("HypernymySuiteModel = all_evaluations = object\n")
        flags = f"-dim {DIM} -negs {NEGATIVES} -epochs {epochs} -batchsize 50 -lr 1.0 -burnin 0"
        flags += " -manifold poincare -lr_type constant -neg_multiplier 1.0 -dampening 1.0 -sparse"
        flags += " -ndproc 1 -train_threads 1 -gpu -1 -fresh -eval_each 100000"
        command = [str(python), "embed.py", "-dset", str(data), "-checkpoint", f"{folder}/x.bin"]
        path = os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command + flags.split(),
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    found = re.findall(r'"elapsed": ([\d.]+), "loss": ([\d.]+)', done.stdout + done.stderr)
    if len(found) < 2:
        raise UnavailableError(f"embed.py failed: {(done.stderr or done.stdout)[-200:]!r}")
    _ensure_learned([float(loss) for _, loss in found])
    return min(float(seconds) for seconds, _ in found)


@contextmanager
def patience(seconds: int) -> Iterator[None]:
    """Interrupt what takes longer, where the system has alarms."""

    def give_up(*_: object) -> None:
        raise UnavailableError(f"not done after {seconds} s")

    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, give_up)
        signal.alarm(seconds)
    try:
        yield
    finally:
        if hasattr(signal, "SIGALRM"):
            signal.alarm(0)


def _timed(do: Callable[[], object]) -> float:
    with stopwatch() as elapsed:
        do()
    return elapsed.wall


def _ensure_learned(losses: list[float]) -> None:
    if not losses[-1] < losses[0]:
        raise WrongAnswerError(f"the loss went from {losses[0]:.3g} to {losses[-1]:.3g}")


def average_precision(pairs: pt.ClosurePairs, radius: Tensor, direction: Tensor) -> float:
    """MAP of the ancestors, ranked by distance; nan where there are too many nodes."""
    if pairs.num_nodes > SMALL:
        return math.nan
    return pt.closure.rank_ancestors(pairs, radius, direction).mean_average_precision


def _ensure_above(start: float, end: float) -> None:
    if end <= start:
        raise WrongAnswerError(f"MAP of the ancestors went from {start:.3g} to {end:.3g}")


def measure(
    jobs: dict[str, Job], rows: Rows, *, taxa: int, epochs: int, closures: Sequence[Path] = ()
) -> None:
    """Add a row for each job that learned, on a synthetic taxonomy and on closures in files."""
    data = {f"{taxa:,} synthetic taxa": synthetic(taxa)}
    data |= {path.name.partition(".")[0]: pt.ClosurePairs.read_csv(path) for path in closures}
    torch.set_num_threads(1)
    for title, pairs in data.items():
        speed: dict[str, float] = {}
        for name, job in jobs.items():
            about = {
                "task": f"training, {NEGATIVES} negatives, {title}",
                "implementation": name,
                "dim": DIM,
            }
            with rows.unless_refused(about):
                seconds = job(pairs, epochs)
                speed[name] = len(pairs) / seconds
                rows.add(
                    **about,
                    items=len(pairs),
                    status="measured",
                    seconds=seconds,
                    items_per_second=speed[name],
                    against=speed[name] / speed[BASELINE] if BASELINE in speed else None,
                )
    torch.set_num_threads(rows.machine.threads)
