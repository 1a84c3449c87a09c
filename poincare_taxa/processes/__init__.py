"""Processes that work together: those of ``torchrun``, or of a group that a program has made.

| file | what it holds |
|---|---|
| `group` | `Processes`: what a process knows of the others, and what travels between them |
| `torchrun` | what torchrun says of this process |
| `digests` | whether numbers are the same everywhere |

A process that is alone does nothing of this.
"""
