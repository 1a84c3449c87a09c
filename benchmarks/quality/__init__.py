"""How well embeddings keep the taxonomy: the layout, its refinement, closures, dtypes."""
