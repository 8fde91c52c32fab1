"""psdbench: text-to-3D score distillation methods under one shared 3D optimizer."""

__version__ = "0.1.0"
