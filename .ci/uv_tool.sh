#!/usr/bin/env bash
# `uv pip install` and `uv tool install`, used in another directory. $1: the wheel, $2: an empty folder.
# The installation page takes torch from PyTorch's own index (--torch-backend cpu). Where that does not answer, torch
# comes from where pip finds it (PIP_FIND_LINKS), in the pinned version, and what was not tried is said.
set -euo pipefail
wheel=$(realpath "$1")
mkdir -p "$2"
set -- "$wheel" "$(realpath "$2")"
smoke=$PWD/.ci/wheel_smoke.sh
constraints=$PWD/constraints.txt

if ! command -v uv > /dev/null; then
  python3 -m venv "$2/uv"
  "$2/uv/bin/python" -m pip install -qq uv
  PATH="$2/uv/bin:$PATH"
fi
export UV_TOOL_DIR=$2/tools UV_TOOL_BIN_DIR=$2/bin UV_CACHE_DIR=$2/cache
unset VIRTUAL_ENV PYTHONPATH
mkdir -p "$2/work" && cd "$2/work"

if python3 -c 'import urllib.request as u; u.urlopen("https://download.pytorch.org/whl/cpu/torch/", timeout=10)' 2> /dev/null
then
  options=(--torch-backend cpu)
else
  echo "NOT TESTED: --torch-backend cpu; PyTorch's index does not answer here"
  options=(--constraints "$constraints")
  export UV_FIND_LINKS=${PIP_FIND_LINKS:-}
fi
# An environment of its own.
uv venv --quiet "$2/venv"
VIRTUAL_ENV=$2/venv uv pip install --quiet "${options[@]}" "$wheel"
"$2/venv/bin/poincare-taxa" --version
# A tool for every shell.
uv tool install --quiet "${options[@]}" "$wheel"
export PATH=$UV_TOOL_BIN_DIR:$PATH
test "$(command -v poincare-taxa)" = "$UV_TOOL_BIN_DIR/poincare-taxa"
# The smoke test imports the library too, which is the tool's Python's.
python() { "$UV_TOOL_DIR/poincare-taxa/bin/python" "$@"; }
export -f python
export UV_TOOL_DIR
bash "$smoke"
uv tool uninstall --quiet poincare-taxa
test ! -e "$UV_TOOL_BIN_DIR/poincare-taxa"
