"""Hyperbolic geometry in three models, as functions of tensors.

| file | what it holds |
|---|---|
| `polar` | radius and direction: where points live, since it holds any radius |
| `ball`, `lorentz` | the Poincaré ball and the hyperboloid: views for other people's models |
| `convert` | between the three models |
| `means` | geodesics, midpoints and Fréchet means, of which all three models have theirs |
| `polar_distance`, `polar_maps` | the stable forms and gradients that `polar` is made of |
| `arguments`, `numerics` | checks of shapes and dtypes; norms and unit vectors |
| `derivatives` | functions with a gradient of their own, and a plain twin for the second |

`kernels` computes the distances of `ball` and `polar` fused; everything else builds on both.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
