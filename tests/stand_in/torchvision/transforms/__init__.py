"""`torchvision.transforms`: the names of ways to resize."""

from enum import Enum


class InterpolationMode(Enum):
    """Ways to resize; the values are those that Pillow's names have in small letters."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"
