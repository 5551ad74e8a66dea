"""Networks that the experiments use, with their parameters in forward order."""

from mechconn.models._small import small_convnet as small_convnet

__all__ = ["small_convnet"]
