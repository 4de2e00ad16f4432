"""How much of a decision each modality carries, and the regularizer (paper, sections 3 and 4).

Read `gradients`, `share` and `regularizer`, in this order. `__init__.pyi` lists the public names. They are imported on
first use, because `ratio` must not import torch. To add an attribution, write a file that registers an `Attribution`,
and import it in `attributor.py`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
