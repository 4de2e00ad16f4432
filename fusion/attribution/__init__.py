"""How much of a decision each modality carries, and the regularizer (paper, sections 3 and 4).

Read `gradients`, `share`, `regularizer`, in this order. `__init__.pyi` lists the public names, which are imported when
they are used: `ratio` must not import torch. Add an attribution as a file that registers an `Attribution`; name it in
`attributor.py`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
