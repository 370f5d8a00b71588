"""What transformers' image processors call of torchvision, for tests where it cannot be installed.

Written from torchvision's public documentation. It holds the functions that those processors use,
for tensors alone, and promises where pixels go, not the last bit of their values.
"""

__version__ = "0.26.0"
