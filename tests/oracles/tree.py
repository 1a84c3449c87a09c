"""Slow and obvious answers about trees, from the parent array alone."""


def walk_up(parent, node):
    """The node, its parent, … , the root."""
    walk = [node]
    while parent[walk[-1]] != -1:
        walk.append(int(parent[walk[-1]]))
    return walk


def lca(parent, u, v):
    above_v = set(walk_up(parent, v))
    return next(a for a in walk_up(parent, u) if a in above_v)


def subtree(parent, node):
    return {v for v in range(len(parent)) if node in walk_up(parent, v)}


def preorder(parent):
    """Nodes of a parent array in depth-first order, children in input order."""
    order, stack = [], [i for i, p in enumerate(parent) if p == -1]
    while stack:
        node = stack.pop()
        order.append(node)
        stack.extend(reversed([i for i, p in enumerate(parent) if p == node]))
    return order
