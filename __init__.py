"""Attribution regularization for multimodal classifiers: does your model listen, look, or both?

Embeddings once (`extract_embeddings`, `import_embeddings`), then heads in seconds (`fit`, `sweep`), and what they rely
on (`evaluate`, `explain`, `report`). In a training loop of your own: `AttributionRegularizer`.

`__init__.pyi` lists the public names. They are imported when they are used, so that `import amr` is quick.
"""

import importlib

import lazy_loader

_of_stub, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    # a module is no attribute of its package before it is imported
    return importlib.import_module("amr.fusion.balance") if name == "balance" else _of_stub(name)
