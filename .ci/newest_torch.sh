#!/usr/bin/env bash
# The fast tests with the newest torch that the package index serves, in an environment of its own; nothing where that
# is the pinned one. $1: the Python to begin with, $2: an empty folder for the environment.
set -euo pipefail

pinned=$(sed -n 's/^torch==//p' constraints.txt)
newest=$("$1" -m pip install --quiet --dry-run --no-deps --ignore-installed --report - torch \
  | "$1" -c 'import json, sys; print(json.load(sys.stdin)["install"][0]["metadata"]["version"])')
if [ "${newest%%+*}" = "$pinned" ]; then
  echo "torch $newest is the newest and the pinned one: there is nothing else to test"
  exit 0
fi
echo "torch $newest is newer than $pinned, which is pinned"

"$1" -m venv "$2/venv"
python=$2/venv/bin/python
sed -E '/^(torch|triton|setuptools)==/d' constraints.txt > "$2/constraints.txt"
# Without a build for the CPU this is gigabytes: what cannot be had in ten minutes is left out, and said.
if ! timeout 600 "$python" -m pip install -qq --constraint "$2/constraints.txt" "torch==$newest" --editable . \
  pytest hypothesis pandas mpmath psutil; then
  echo "NOT TESTED: torch $newest could not be installed here within ten minutes"
  exit 0
fi

# What a user does first, where every warning is an error.
"$python" -W error - <<'PY'
import torch

import poincare_taxa as pt

tax = pt.testing.synthetic_taxonomy(300, seed=0)
print(torch.__version__, pt.fit(tax, dim=5, progress=False).history["loss"][-1])
report = pt.evaluate(pt.embed(tax, dim=5), only={"ancestor"})
assert report["ancestor MAP"].value > 0.9
PY

# Vectors that an earlier version saved, made with the pinned torch, to an ulp on each level.
"$python" -m pytest -q tests/test_fixtures.py -k embed

OMP_NUM_THREADS=1 "$python" -m pytest -q -m "not slow" tests/geometry tests/blocks/test_manifolds.py \
  tests/blocks/test_embedding.py tests/blocks/test_optimizers.py tests/blocks/test_losses.py \
  tests/kernels/test_distance.py tests/training/test_level_stress.py tests/test_public_api.py
