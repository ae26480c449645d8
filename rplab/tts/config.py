"""Settings of the voice."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rplab.stage import StageConfig


class VoiceConfig(StageConfig):
    """Which voice speaks, and how."""

    engine: Literal["openjtalk", "onnx"] = "openjtalk"
    """`openjtalk`: the embedded HTS voice, no model file needed. `onnx`: the trained voice in `folder`."""
    folder: str = ""
    """`onnx`: folder or `.aivmx` file of the voice; play fills in the character's own when it is empty."""
    bert: str = ""
    """`onnx`: BERT folder; empty takes `bert` inside of `folder` when it is there, else speaks without."""
    speaker: str = ""
    """`onnx`: name of the speaker; empty is the first."""
    style_weight: float = Field(default=1.0, ge=0.0, le=10.0)
    """`onnx`: 0 = the mean of all styles, 1 = the style as recorded, above 1 exaggerates."""
    sdp_ratio: float = Field(default=0.2, ge=0.0, le=1.0)
    """`onnx`: liveliness of the rhythm; 0 = always the same durations, 1 = drawn ones (by `seed`)."""
    intonation: float = Field(default=1.0, ge=0.0, le=2.0)
    """`onnx`: how far the melody goes from its mean: 0 = monotone, 2 = twice as far. Other than 1 needs the extra `intonation` and
    speaks sentence by sentence."""
    seed: int = Field(default=42, ge=0)
    """`onnx`: draws the noise of the voice; the same text with the same seed sounds the same. Graphs in the `mono` form draw their own."""
    loudness_dbfs: float | None = Field(default=-20.0, ge=-50.0, le=-6.0)
    """`onnx`: RMS level that the voice is brought to by one fixed gain (at most +18 dB); None leaves it as it was trained."""
    device: Literal["cpu", "cuda", "auto"] = "auto"
    """`onnx`: where the networks run."""
    threads: int = Field(default=0, ge=0, le=64)
    """`onnx`: threads inside an operator; 0 = onnxruntime's choice."""
    spin: bool = False
    """`onnx`: threads wait for each other without sleeping while a sentence is made: 4 % faster where the cores have nothing else to
    do. Off in play, where the language model writes on while the voice speaks."""
    speed: float = Field(default=1.0, ge=0.5, le=2.0)
    """Rate of speech; 1.0 is the voice's own."""
    pitch: float = Field(default=0.0, ge=-12.0, le=12.0)
    """Shift in semitones."""
    style: str = ""
    """Speaking style by name; empty is the voice's own. `openjtalk` knows happy, sad, angry, calm."""
