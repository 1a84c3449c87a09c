"""Whether vectors mean what their taxonomy says.

| file | what it holds |
|---|---|
| `measure` | `evaluate`: which taxa are measured, and what stands beside them |
| `report` | `Report`, its rows and their intervals |
| `rows` | the sections of a report: what each row is computed from |
| `subjects` | embedding, floor and ceiling; all taxa from each query |
| `rank_counts` | statistics of many queries from exact neighbours and rank counts |
| `ranks` | places in a sorted list, and what ties do to them |
| `metrics` | what each measure is, as functions of arrays |

`layouts.refine` and `training.monitor` measure with it; `model` and the command line report it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
