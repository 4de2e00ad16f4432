"""Attribution regularization for multimodal classifiers: does your model listen, look, or both?

Embeddings once (`extract_embeddings`, `import_embeddings`), then heads in seconds (`fit`, `sweep`), and what they rely
on (`evaluate`, `explain`, `report`). In a training loop of your own: `AttributionRegularizer`.

`__init__.pyi` lists the public names. They are imported when they are used, so that `import amr` is quick.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
