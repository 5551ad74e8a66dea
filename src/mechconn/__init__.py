"""Mechanistic connectivity: do two networks solve a task by the same mechanism, and which paths join them?

The public names stand in `__init__.pyi`; the package that holds a name is imported when the name is first used.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
