"""Knowledge distillation from internal representations, as a pipeline."""

__version__ = "0.1.0"
