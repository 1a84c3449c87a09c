#!/usr/bin/env bash
# What a user does first with an installed package; run in an empty directory with its environment on PATH.
set -euo pipefail

poincare-taxa --version
poincare-taxa embed demo -o sample --dim 10 --seed 0
poincare-taxa check sample
poincare-taxa nearest sample "Homo sapiens" --taxon-rank genus -k 3
poincare-taxa explore sample -o tree.html
test "$(wc -c < tree.html)" -gt 100000 # the script and the data are in it
python -m poincare_taxa evaluate sample --json > report.json
python - <<'PY'
import json
import pathlib

import poincare_taxa as pt

assert "site-packages" in pt.__file__, pt.__file__
assert all(hasattr(pt, name) for name in pt.__all__)  # no name needs an extra to be imported
model = pt.TaxonEmbedding.load("sample")
assert model["Homo sapiens"].shape == (10,)
assert json.loads(pathlib.Path("report.json").read_text())
PY
if poincare-taxa embed no-such-file -o nothing 2> error.txt; then
  echo "embedding a missing file succeeded" >&2
  exit 1
fi
test "$(wc -l < error.txt)" = 1
test ! -e nothing
