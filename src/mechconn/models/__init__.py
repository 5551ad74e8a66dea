"""Networks that the experiments use, with their parameters in forward order."""

from mechconn.models._paper import resnet18 as resnet18
from mechconn.models._paper import vgg13 as vgg13
from mechconn.models._small import small_convnet as small_convnet

__all__ = ["resnet18", "small_convnet", "vgg13"]
