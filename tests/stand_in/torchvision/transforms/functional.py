"""`torchvision.transforms.functional`: a Pillow image as a tensor."""

import numpy as np
import torch
from PIL import Image


def pil_to_tensor(pic: Image.Image) -> torch.Tensor:
    """Channels x height x width, uint8."""
    pixels = torch.from_numpy(np.array(pic))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()
