"""What every room needs to write a file.

| file | what it holds |
|---|---|
| `records` | values as JSON can hold them, and the version of this library |

It knows nothing of taxonomies or tensors; every other room may import it.
"""
