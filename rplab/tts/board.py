"""What TensorBoard shows of a training: losses, mel bands, alignment, sound. Opt-in; the package is not needed otherwise."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rplab.errors import ConfigError


class Board:
    """Writes event files into a folder."""

    def __init__(self, folder: Path) -> None:
        """Open the folder.

        Raises:
            ConfigError: The package tensorboard is not installed.
        """
        try:
            module: Any = importlib.import_module("torch.utils.tensorboard")
        except ImportError:
            raise ConfigError("tensorboard = true needs the package tensorboard. pip install tensorboard, or leave it false") from None
        self._writer: Any = module.SummaryWriter(str(folder))

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Show figures; `step` and what is no measurement are left out."""
        for name, value in values.items():
            if name not in ("step", "epoch"):
                self._writer.add_scalar(name, value, step)

    def picture(self, name: str, values: NDArray[np.floating], step: int) -> None:
        """Show a matrix (rows from below, columns) as a grey picture, from its smallest to its largest value."""
        low, high = float(values.min()), float(values.max())
        scaled = (values[::-1] - low) / max(high - low, 1e-9)
        self._writer.add_image(name, scaled[None].astype(np.float32), step)

    def sound(self, name: str, samples: NDArray[np.floating], rate_hz: int, step: int) -> None:
        """Let a sound be heard; (samples,) within -1..1."""
        self._writer.add_audio(name, samples[None].astype(np.float32), step, rate_hz)
        self._writer.flush()

    def close(self) -> None:
        """Write what is pending."""
        self._writer.close()
