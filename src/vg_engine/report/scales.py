"""Numbers on axes: nice ticks, their labels, how wide a text is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import SupportsFloat

import numpy as np

Numbers = Sequence[SupportsFloat] | np.ndarray
