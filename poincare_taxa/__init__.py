"""Taxonomies as hyperbolic vectors: distance means relatedness, radius means depth."""
