"""`torchvision.transforms.v2.functional` for tensors of ... x channels x height x width."""

import torch
from PIL import Image
from torch.nn import functional as nn

from torchvision.transforms import InterpolationMode

_SMOOTH = (InterpolationMode.BILINEAR, InterpolationMode.BICUBIC)
_MODES = (*_SMOOTH, InterpolationMode.NEAREST, InterpolationMode.NEAREST_EXACT)


def resize(inpt, size, interpolation=InterpolationMode.BILINEAR, *, antialias=True):
    """To `size` = (height, width); integers are rounded and kept within 0 and 255.

    Ways to resize may be given by Pillow's numbers, too.
    """
    if isinstance(interpolation, int):
        interpolation = InterpolationMode(Image.Resampling(interpolation).name.lower())
    if interpolation not in _MODES:
        raise ValueError(f"{interpolation} is not defined for tensors")
    if tuple(inpt.shape[-2:]) == tuple(size):
        return inpt
    shape = inpt.shape
    images = inpt.reshape(-1, *shape[-3:])
    smooth = interpolation in _SMOOTH
    exact = nn.interpolate(
        images if images.is_floating_point() else images.float(),
        size=tuple(size),
        mode=interpolation.value,
        align_corners=False if smooth else None,
        antialias=antialias and smooth,
    )
    if not inpt.is_floating_point():
        exact = exact.round().clamp(0, 255).to(inpt.dtype)
    return exact.reshape(*shape[:-2], *size)


def pad(inpt, padding, fill=None, padding_mode="constant"):
    """A border of `padding` = (left, top, right, bottom); `fill` is one value, or one a channel."""
    if padding_mode != "constant":
        raise ValueError(f"padding_mode {padding_mode!r} is not defined here")
    left, top, right, bottom = padding
    values = torch.as_tensor([0] if fill is None else fill, dtype=inpt.dtype, device=inpt.device)
    height, width = inpt.shape[-2:]
    bordered = inpt.new_empty((*inpt.shape[:-2], height + top + bottom, width + left + right))
    bordered[:] = values.reshape(-1, 1, 1)
    bordered[..., top : top + height, left : left + width] = inpt
    return bordered


def crop(inpt, top, left, height, width):
    """A part; what lies outside of the picture is 0."""
    high, wide = inpt.shape[-2:]
    around = (max(-left, 0), max(-top, 0), max(left + width - wide, 0), max(top + height - high, 0))
    if any(around):
        inpt, left, top = pad(inpt, around), max(left, 0), max(top, 0)
    return inpt[..., top : top + height, left : left + width]


def normalize(inpt, mean, std, *, inplace=False):
    """`(inpt - mean) / std`, channel by channel; `inplace` only says that it may be."""
    del inplace
    if not inpt.is_floating_point():
        raise TypeError(f"expected floating-point numbers, got {inpt.dtype}")
    middle, spread = (
        torch.as_tensor(each, dtype=inpt.dtype, device=inpt.device).reshape(-1, 1, 1)
        for each in (mean, std)
    )
    return (inpt - middle) / spread


def grayscale_to_rgb(inpt):
    """One channel three times; others as they are."""
    return inpt.expand(*inpt.shape[:-3], 3, *inpt.shape[-2:]) if inpt.shape[-3] == 1 else inpt


def to_dtype(inpt, dtype, *, scale=False):
    """Another type; with `scale` 0..255 becomes 0..1 and the reverse."""
    if not scale or inpt.dtype == dtype:
        return inpt.to(dtype)
    if dtype == torch.uint8 and inpt.is_floating_point():
        return (inpt * 255).round().clamp(0, 255).to(dtype)
    if inpt.dtype == torch.uint8 and dtype.is_floating_point:
        return inpt.to(dtype) / 255
    raise ValueError(f"{inpt.dtype} to {dtype} is not defined here")
