"""What every room needs to write a record of its results.

| file | what it holds |
|---|---|
| `atomic` | files and folders that are written whole or not at all |
| `records` | values as JSON has them, names of dtypes, the version of this library |
| `seeds` | one seed, and a stream of random numbers for each purpose |

It knows nothing of taxonomies or tensors; every other room may import it.
"""
