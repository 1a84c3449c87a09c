"""Files and packages → `Taxonomy`.

| file | what it reads |
|---|---|
| `recognise` | `read`: files of all these formats, recognised by their content |
| `ncbi`, `package` | NCBI taxonomy dumps; the same taxonomy as an offline Python package |
| `edges`, `lineages`, `newick` | edge lists and parent arrays; tables of lineages; Newick trees |
| `dags` | tables of edges for `ClosurePairs`: OBO through obonet, WordNet through nltk |
| `sample` | the sample that the library ships |
| `download` | fetches the current NCBI dump, only when a user calls it |
| `headings` | whether a table has headings, and the kind of column that each stands for |
| `text`, `archive` | lines of text with their numbers; members of archives, with checks |

A reader is a function of a path; bad input raises `TaxonomyError` with file, line and likely cause.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
