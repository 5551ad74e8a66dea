"""Models that users bring: built by their functions, with weights from files, or from folders of Transformers."""

from mechconn._loading._load_model import load_model as load_model

__all__ = ["load_model"]
