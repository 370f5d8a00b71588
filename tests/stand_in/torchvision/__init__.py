"""What transformers' image processors call of torchvision, written from its documentation.

For tests where it cannot be installed, and tensors alone: it promises where pixels go.
"""

__version__ = "0.26.0"
