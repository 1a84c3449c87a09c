"""Whole training jobs: pairs per second with 50 negatives, beside gensim's and facebookresearch's.

All train on the same pairs (descendant, ancestor) of a synthetic taxonomy, in 10 dimensions, one
thread each. A job counts only if it learned: the loss it reports, or the mean distance of the pairs
against that of random ones, must have fallen. facebookresearch/poincare-embeddings is run from the
user's own checkout (CC-BY-NC: nothing of it is here).
"""

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

import poincare_taxa as pt
from benchmarks.measure import Rows, UnavailableError, WrongAnswerError
from poincare_taxa.testing import synthetic_taxonomy

NEGATIVES, DIM = 50, 10
Job = Callable[[pt.Taxonomy, int], float]
"""Train for some epochs: seconds of training per epoch."""


def closure(taxonomy: pt.Taxonomy) -> np.ndarray:
    """All pairs (descendant, ancestor), [pairs, 2]."""
    child, above = np.arange(len(taxonomy)), taxonomy.parent
    found = []
    while (above >= 0).any():
        child, above = child[above >= 0], above[above >= 0]
        found.append(np.stack([child, above], axis=1))
        above = taxonomy.parent[above]
    return np.concatenate(found)


def this_library(
    taxonomy: pt.Taxonomy, epochs: int, *, batch: int = 4096, shared: bool = False
) -> float:
    """Draw pairs and negatives, softmax loss, row-wise Riemannian Adam: the documented loop."""
    generator = torch.Generator().manual_seed(0)
    tree = pt.TreeIndex(taxonomy)
    pairs = pt.AncestorPairs(tree)
    embedding = pt.PoincareEmbedding(len(taxonomy), DIM, sparse=True, generator=generator)
    optimizer = pt.RowwiseRiemannianAdam(embedding.parameters(), lr=0.03)
    sampler = pt.UniformNegatives(tree, NEGATIVES)
    tile = pt.SharedNegatives(tree, NEGATIVES)
    losses = []

    def step() -> None:
        drawn = pairs.sample(batch, generator=generator)
        ancestor, node = drawn[:, 0], drawn[:, 1]
        if shared:
            candidates = tile.tile(drawn, generator)
            points = embedding(node), embedding(candidates.nodes)
            mask, d_neg = candidates.mask, embedding.manifold.cdist(*points)
        else:
            nodes = sampler(drawn, generator)
            mask = nodes >= 0
            d_neg = embedding.dist(node[:, None], nodes.clamp(min=0))
        loss = pt.softmax_ranking_loss(embedding.dist(node, ancestor), d_neg, mask=mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    step()
    steps = max(2, epochs * len(pairs) // batch)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    seconds = time.perf_counter() - start
    _ensure_learned(losses)
    return seconds * len(pairs) / (steps * batch)


def gensim(taxonomy: pt.Taxonomy, epochs: int) -> float:
    try:
        from gensim.models.poincare import PoincareModel
    except ImportError as error:
        raise UnavailableError(f"not installed ({error.name})") from None
    relations = [(str(u), str(v)) for u, v in closure(taxonomy).tolist()]
    model = PoincareModel(relations, size=DIM, negative=NEGATIVES, burn_in=0, seed=0)
    start = time.perf_counter()
    model.train(epochs=epochs, batch_size=NEGATIVES)
    seconds = (time.perf_counter() - start) / epochs
    pairs = np.array(relations[:2000])
    others = np.random.default_rng(0).permutation(pairs[:, 1])
    distance = model.kv.distance
    near = np.mean([distance(u, v) for u, v in pairs.tolist()])
    far = np.mean([distance(u, v) for u, v in zip(pairs[:, 0], others, strict=True)])
    if not near < far:
        raise WrongAnswerError(f"pairs are {near:.3g} apart, random ones {far:.3g}")
    return seconds


def facebook(taxonomy: pt.Taxonomy, epochs: int, *, checkout: Path | None, python: Path) -> float:
    """Run embed.py of the user's checkout; its log says what an epoch took."""
    if checkout is None or not (checkout / "embed.py").exists():
        raise UnavailableError("no checkout: give --facebook FOLDER and --facebook-python PROGRAM")
    with TemporaryDirectory() as folder:
        data, empty = Path(folder) / "closure.csv", Path(folder) / "hypernymysuite"
        rows = "".join(f"n{u},n{v},1\n" for u, v in closure(taxonomy).tolist())
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
    return float(np.median([float(seconds) for seconds, _ in found]))


def _ensure_learned(losses: list[float]) -> None:
    if not losses[-1] < losses[0]:
        raise WrongAnswerError(f"the loss went from {losses[0]:.3g} to {losses[-1]:.3g}")


def measure(jobs: dict[str, Job], rows: Rows, *, taxa: int, epochs: int) -> None:
    """Add a row for each job that learned."""
    taxonomy = synthetic_taxonomy(taxa)
    pairs = int(taxonomy.depth.sum())
    torch.set_num_threads(1)
    for name, job in jobs.items():
        about = {"task": f"training, {NEGATIVES} negatives", "implementation": name, "dim": DIM}
        try:
            seconds = job(taxonomy, epochs)
        except (WrongAnswerError, UnavailableError) as error:
            kind = "refused" if isinstance(error, WrongAnswerError) else "not here"
            rows.add(**about, status=f"{kind}: {error}")
            continue
        rows.add(
            **about,
            items=pairs,
            status="measured",
            seconds=seconds,
            items_per_second=pairs / seconds,
        )
    torch.set_num_threads(rows.machine.threads)
