"""Settings of the voice's stages: corpus, preprocess, train, export.

Presets (`PRESETS`): `smoke` trains a small network for about a minute on one core, `small` for well under an hour from 2,500
sentences (the recipe of the shipped voice `hts_small`), `finetune` continues an official JP-Extra base at full size,
`scratch` trains the full size from nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from rplab.jsonl import JsonValue
from rplab.stage import RunOnly, StageConfig
from rplab.tts.model.hyper import AudioFormat, VoiceSize

SMALL = VoiceSize(
    audio=AudioFormat(sample_rate=16_000, fft_size=1024, hop_length=256, num_mels=80, segment_samples=8192),
    inter_channels=48,
    hidden_channels=96,
    filter_channels=160,
    num_layers=3,
    dropout=0.0,
    speaker_channels=32,
    num_flows=2,
    flow_layers=3,
    posterior_layers=4,
    duration_channels=128,
    upsample_rates=(8, 8, 4),
    upsample_kernels=(16, 16, 8),
    upsample_channels=128,
    resblock_kernels=(3, 7),
    resblock_dilations=((1, 3, 5), (1, 3, 5)),
)
"""About 3 M parameters, 16 kHz: trains on one core."""

SIZES: dict[str, VoiceSize] = {"small": SMALL, "full": VoiceSize()}


class VoiceCorpusConfig(StageConfig):
    """Where the recordings come from: a folder of yours, or the embedded HTS voice that speaks real Japanese, offline."""

    recordings: str | None = None
    """Folder with `raw/` (or the files beside it) and `transcripts.list`; None lets the embedded voice speak."""
    untranscribed: bool = False
    """The folder may lack `transcripts.list`: `voice_preprocess.asr` will understand the recordings."""
    sentences: int = Field(default=200, ge=4, le=20_000)
    """Sentences that the embedded voice speaks; about 2.8 s of speech each."""
    seed: int = 42

    def outside(self) -> JsonValue:
        """Return names, sizes and times of the recordings."""
        return _files_below(self.recordings)


class VoicePreprocessConfig(StageConfig):
    """Recordings and transcripts -> clips that can be trained on."""

    size: Literal["small", "full"] = "full"
    """Decides the sample rate."""
    loudness_dbfs: float | None = -23.0
    """RMS of each clip; None keeps the level."""
    trim_db: float | None = 40.0
    """Silence at the edges that is this far below the peak is cut; None keeps it."""
    min_s: float = Field(default=0.4, gt=0)
    """Shorter clips are set aside."""
    max_s: float = Field(default=15.0, gt=0)
    """Longer clips are set aside: slice them first. Recordings without transcript are sliced here (`asr`)."""
    unknown: Literal["raise", "skip", "use"] = "skip"
    """Texts with characters without a reading: stop, set the clip aside, or train on the rest of it."""
    validation: int = Field(default=5, ge=1)
    """Clips of each speaker that are never trained on."""
    name: str = Field(default="voice", pattern=r"[A-Za-z0-9][A-Za-z0-9_.-]*")
    """Name of the voice."""
    asr: str | None = None
    """Folder of a CTranslate2 Whisper model (faster-whisper must be installed): recordings that the list does not name are
    cut at pauses and understood by it. None leaves them out and lists them."""
    speaker: str = ""
    """Who speaks in those; empty takes the list's only speaker, or without a list the name of the voice."""
    vad: str | None = None
    """silero-vad `.onnx` that finds the pauses; None takes that of an installed package, else an energy measure."""
    style_model: str | None = None
    """Speaker network `.onnx` for style vectors, (B, T, 80) Kaldi filter banks -> (B, 256) as WeSpeaker's ResNet34; None
    takes the built-in encoder, which needs no weights."""
    workers: Annotated[int, RunOnly()] = Field(default=2, ge=1, le=64)
    """Recordings in work at the same time."""
    seed: int = 42

    def outside(self) -> JsonValue:
        """Return names, sizes and times of the models' files."""
        models = (self.asr, self.vad, self.style_model)
        return [_files_below(model) for model in models] if any(models) else None


class VoiceTrainConfig(StageConfig):
    """Training of the voice network. Defaults: continue an official base at full size (spec/tts.md, B)."""

    size: Literal["small", "full"] = "full"
    base: str | None = None
    """What training starts from: a folder with `G_0.safetensors` and `D_0.safetensors` of the family or a training of
    ours, or `hts_small`, the small voice that is shipped. None starts from nothing."""
    max_steps: int = Field(default=20_000, ge=1)
    batch_size: int = Field(default=2, ge=1)
    """Clips a step, over all processes."""
    pieces: int = Field(default=1, ge=1)
    """Parts that a step's clips are split into, one after another or on several processes (torchrun): less memory, same result."""
    learning_rate: float = Field(default=1e-4, gt=0)
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear warm-up."""
    decay: float = Field(default=0.99996, gt=0, le=1)
    """Factor on the learning rate after each epoch."""
    final_rate: float = Field(default=1.0, gt=0, le=1)
    """Share of the learning rate that is left at `max_steps`, reached along a half cosine; 1 = no cosine."""
    average: float = Field(default=0.0, ge=0, lt=1)
    """Decay of a moving average of the weights, which is validated and published in place of the last weights; 0 = none."""
    alignment: Literal["search", "forced"] = "search"
    """Which frames belong to which phone: searched in every step, as in VITS, or found once beforehand by one Gaussian for
    each half phone. `forced` is for training from nothing in short time; a network that knows its alignment needs no help."""
    kl_weight: float = Field(default=1.0, ge=0)
    """Factor on the KL loss; below 1 the latent frames carry more, and the text must tell more."""
    prior_share: float = Field(default=0.0, ge=0, le=1)
    """Share of each batch whose mel loss is taken on speech from text instead of from the recording."""
    prior_from: int = Field(default=0, ge=0)
    """First step with `prior_share`: speech from a text side that knows nothing yet teaches the decoder to blur."""
    text_from: int = Field(default=0, ge=0)
    """First step in which the text side learns; before it posterior and decoder learn alone, at a third of the cost."""
    latent_weight: float = Field(default=0.05, ge=0)
    """Factor on the KL loss towards a standard normal before `text_from`; 1 lets the latent frames forget the speech."""
    prior_noise: float = Field(default=0.6, ge=0)
    """Largest factor on the prior's deviation in such speech."""
    mel_resolutions: tuple[int, ...] = ()
    """Further FFT sizes at which mel bands are compared; the mel loss is the mean over all."""
    round_up: float = Field(default=0.0, ge=0, lt=1)
    """Frames that the plain duration predictor aims short, because what it says is rounded up to whole frames: 0.5 makes up for
    it. 0 is what the family does; its speech is a little slow, and at 62 frames a second a fifth too slow."""
    stochastic_every: int = Field(default=1, ge=1)
    """The stochastic duration predictor learns in every n-th step; the rest of the network does not notice."""
    adversarial_from: int = Field(default=0, ge=0)
    """First step with the discriminators; before it only the mel, KL and duration losses act."""
    discriminator_width: float = Field(default=1.0, gt=0, le=1)
    """Factor on the discriminators' channels; 1 fits official checkpoints."""
    clip_generator: float = 500.0
    clip_discriminator: float = 200.0
    noise_mas: float = 0.01
    """Noise on the alignment scores at the start (VITS2)."""
    noise_mas_decay: float = 2e-6
    """Taken off at every step."""
    freeze: tuple[Literal["bert", "style", "decoder", "flow", "posterior"], ...] = ()
    """Parts that keep their weights."""
    freeze_from: int = Field(default=0, ge=0)
    """First step in which they do."""
    bf16: bool = False
    """Autocast to bfloat16 (GPUs that have it)."""
    tensorboard: Annotated[bool, RunOnly()] = False
    """Write losses, mel bands, alignment and sound for TensorBoard into `logs/tensorboard`."""
    evaluate_every: int = Field(default=1000, ge=1)
    """Steps between validations."""
    save_every: int = Field(default=500, ge=1)
    """Steps between checkpoints that a killed run continues from."""
    seed: int = 42

    def outside(self) -> JsonValue:
        """Return names, sizes and times of the base's files."""
        return _files_below(self.base)


def _files_below(folder: str | None) -> JsonValue:
    path = Path(folder).expanduser() if folder is not None else None
    if path is not None and path.is_file():
        return [[path.name, path.stat().st_size, path.stat().st_mtime_ns]]
    if path is None or not path.is_dir():
        return None
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return [[str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


class VoiceExportConfig(StageConfig):
    """Export of a trained voice to ONNX."""

    forms: tuple[Literal["split", "mono"], ...] = ("split", "mono")
    exporter: Literal["legacy", "dynamo"] = "legacy"


_FROM_NOTHING_IN_SHORT: Mapping[str, Any] = {
    "size": "small",
    "learning_rate": 2e-3,
    "alignment": "forced",
    "freeze": ("posterior",),
    "kl_weight": 0.5,
    "round_up": 0.5,
    "stochastic_every": 5,
    "bf16": True,
    "adversarial_from": 1_000_000,
    "discriminator_width": 0.125,
}
"""Posterior and decoder first, then the text side, without discriminators (LOG.md has what each part gains)."""
PRESETS: dict[str, VoiceTrainConfig] = {
    "smoke": VoiceTrainConfig(
        **_FROM_NOTHING_IN_SHORT,
        max_steps=240,
        batch_size=8,
        warmup_steps=10,
        final_rate=0.1,
        text_from=170,
        freeze_from=170,
        prior_share=0.5,
        prior_noise=0.0,
        prior_from=170,
        evaluate_every=240,
        save_every=50,
    ),
    "small": VoiceTrainConfig(
        **_FROM_NOTHING_IN_SHORT,
        max_steps=2000,
        batch_size=12,
        warmup_steps=40,
        final_rate=0.03,
        average=0.99,
        text_from=600,
        freeze_from=600,
        prior_share=0.7,
        prior_noise=0.5,
        prior_from=900,
        mel_resolutions=(512, 256),
        evaluate_every=200,
        save_every=100,
    ),
    "finetune": VoiceTrainConfig(),
    "scratch": VoiceTrainConfig(max_steps=400_000, batch_size=16, learning_rate=2e-4, warmup_steps=1000, evaluate_every=5000),
}
