"""The part of torchvision that transformers' image processors call, after its documentation.

For tests where it cannot be installed, and tensors alone: it promises where pixels go.
"""

__version__ = "0.26.0"
