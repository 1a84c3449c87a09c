"""Files and records of results, for all rooms.

| file | what it holds |
|---|---|
| `atomic` | files and folders that are written whole or not at all |
| `extras` | packages of extras, imported where they are used |
| `html` | small tables for notebooks |
| `locks` | a file that one process at a time holds |
| `parquet` | tables that may be damaged: one kind of error, bounded memory |
| `progress` | how far long work is, in a terminal, a notebook or a log |
| `records` | values as JSON has them, names of dtypes, the version of this library |
| `seeds` | one seed, and a stream of random numbers for each purpose |

It does not depend on taxonomies or tensors; every other room may import it.
"""
