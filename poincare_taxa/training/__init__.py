"""`fit`: one loop for every recipe.

| file | what it holds |
|---|---|
| `run` | `fit` and the `Run` that it returns |
| `defaults` | the recommended recipes: which blocks where none are given |
| `objectives` | what is minimised: losses of a batch, from rows to a number with gradients |
| `level_stress` | the objective of the recommended recipe, one level after the other |
| `loop` | the steps themselves |
| `monitor`, `progress`, `early_stopping` | what is measured, shown and decided after each epoch |
| `checkpoint`, `provenance` | resuming with the same bits; the description of a run |
| `config` | a run as a TOML file |

The command line calls `config`; everything else is called by `run`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
