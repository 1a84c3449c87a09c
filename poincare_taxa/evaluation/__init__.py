"""Whether vectors mean what their taxonomy says.

| file | what it holds |
|---|---|
| `measure` | `evaluate`: which taxa are measured, and what stands beside them |
| `report` | `Report`, its rows and their estimates |
| `rows` | the sections of a report: what each row is computed from |
| `rank_counts` | statistics of many queries: what their targets are, and which measures follow |
| `intervals` | how sure a value of sampled taxa is |
| `subjects` | embedding, floor and ceiling as providers of neighbours and counts |
| `floors` | what radii alone earn: random directions, and one direction |
| `points` | points as a caller gives them, in which space; rows that are no points |
| `keyed` | vectors that come with ids, put into the rows of their taxa |
| `groups`, `samples` | groups of taxa to judge by; others drawn for each query |
| `ranks` | what counts of nearer and tied candidates are worth |
| `metrics` | correlations and distortion, as functions of arrays |
| `ancestry` | pairs to judge by whether one is an ancestor of the other |
| `calibration` | scores as probabilities, and how far these can be trusted |
| `clock` | seconds spent on each part |

`layouts.refine` and `training.monitor` measure with it; `model` and the command line report it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
