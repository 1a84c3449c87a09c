from .embedding import embed_shards as embed_shards
from .evaluation import evaluate_shards as evaluate_shards
