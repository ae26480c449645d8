"""Sizes of the voice network and of its audio, without torch: the runtime reads them too.

`from_family` reads the `config.json` that lies beside every Style-Bert-VITS2 voice; `to_family` writes one that other
programs of the family read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rplab.errors import ModelError
from rplab.tts.symbols import BERT_CHANNELS, NUM_LANGUAGES, NUM_TONES, STYLE_CHANNELS, SYMBOLS

FAMILY_VERSION = "2.7.0-JP-Extra"


@dataclass(frozen=True)
class AudioFormat:
    """How waveforms become spectrograms and back."""

    sample_rate: int = 44_100
    """Hz."""
    fft_size: int = 2048
    """Also the window length, in samples."""
    hop_length: int = 512
    """Samples per frame."""
    num_mels: int = 128
    segment_samples: int = 16_384
    """Length of the random cut that the decoder is trained on."""

    @property
    def num_bins(self) -> int:
        """Rows of a linear spectrogram."""
        return self.fft_size // 2 + 1

    @property
    def segment_frames(self) -> int:
        """Frames of a training segment."""
        return self.segment_samples // self.hop_length


@dataclass(frozen=True)
class VoiceSize:
    """Sizes of the generator; the defaults are the official full size (73.5 M parameters)."""

    audio: AudioFormat = field(default_factory=AudioFormat)
    num_speakers: int = 1
    inter_channels: int = 192
    hidden_channels: int = 192
    filter_channels: int = 768
    num_heads: int = 2
    num_layers: int = 6
    kernel_size: int = 3
    dropout: float = 0.1
    speaker_channels: int = 512
    num_flows: int = 4
    flow_layers: int = 6
    posterior_layers: int = 16
    duration_channels: int = 256
    upsample_rates: tuple[int, ...] = (8, 8, 2, 2, 2)
    upsample_kernels: tuple[int, ...] = (16, 16, 8, 2, 2)
    upsample_channels: int = 512
    resblock_kernels: tuple[int, ...] = (3, 7, 11)
    resblock_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    num_symbols: int = len(SYMBOLS)
    num_tones: int = NUM_TONES
    num_languages: int = NUM_LANGUAGES
    bert_channels: int = BERT_CHANNELS
    style_channels: int = STYLE_CHANNELS

    def __post_init__(self) -> None:
        """Check what no module would notice before it is too late."""
        product = 1
        for rate in self.upsample_rates:
            product *= rate
        if product != self.audio.hop_length:
            raise ModelError(f"the upsample rates {self.upsample_rates} multiply to {product}, not to the hop {self.audio.hop_length}")
        if len(self.upsample_rates) != len(self.upsample_kernels):
            raise ModelError("upsample rates and kernels must be of equal number")
        if self.inter_channels % 2 or self.hidden_channels % self.num_heads:
            raise ModelError("inter_channels must be even and hidden_channels a multiple of num_heads")

    @property
    def overlap_frames(self) -> int:
        """Frames on each side that one decoded frame depends on: the overlap for exact decoding in pieces."""
        return self.decoder_contexts[0]

    @property
    def decoder_contexts(self) -> tuple[int, ...]:
        """Frames on each side that one decoded frame depends on: at the decoder's input, then after each step that raises the rate.

        Full size: 13, 2, 1, 1, 1, 1. By interval arithmetic from the samples of one frame back to the latent.
        """
        low, high = -3, self.audio.hop_length + 2  # conv_post, kernel 7, on samples 0..hop - 1
        per_frame = self.audio.hop_length
        contexts = [_frames_beside(low, high, per_frame)]
        reach = max(
            sum((width - 1) // 2 * (dilation + 1) for dilation in dilations)  # each dilated convolution is followed by a plain one
            for width, dilations in zip(self.resblock_kernels, self.resblock_dilations, strict=True)
        )
        for rate, kernel in zip(reversed(self.upsample_rates), reversed(self.upsample_kernels), strict=True):
            padding = (kernel - rate) // 2
            low = -((-(low - reach + padding - kernel + 1)) // rate)  # input i reaches outputs i*rate - padding + 0..kernel-1
            high = (high + reach + padding) // rate
            per_frame //= rate
            contexts.append(_frames_beside(low, high, per_frame))
        contexts[-1] += 3  # conv_pre, kernel 7
        return tuple(reversed(contexts))


def _frames_beside(low: int, high: int, per_frame: int) -> int:
    """Return how many whole frames positions low..high reach beyond frame 0, which has `per_frame` of them."""
    return max(-(low // per_frame), high // per_frame)


@dataclass(frozen=True)
class VoiceConfigFile:
    """What a voice folder's `config.json` says."""

    size: VoiceSize
    name: str
    speakers: Mapping[str, int]
    styles: Mapping[str, int]
    version: str = FAMILY_VERSION


def from_family(path: Path) -> VoiceConfigFile:
    """Read a Style-Bert-VITS2 JP-Extra `config.json`.

    Raises:
        ModelError: No such file, not JSON, of another model kind, or a field missing.
    """
    try:
        raw: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file. A voice folder holds config.json, style_vectors.npy and the model") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not JSON ({error}). Fetch the voice again") from None
    return parse_family(raw, str(path))


def parse_family(raw: dict[str, Any], source: str) -> VoiceConfigFile:
    """Return the config of a JP-Extra voice given as JSON; `source` names it in errors.

    Raises:
        ModelError: Of another model kind, or a field missing.
    """
    try:
        return _parse_family(raw, source)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{source}: not a JP-Extra config ({type(error).__name__}: {error}). Fetch the voice again") from None


def _parse_family(raw: dict[str, Any], source: str) -> VoiceConfigFile:
    data, model = raw["data"], raw["model"]
    version = str(raw.get("version", ""))
    if not (data.get("use_jp_extra", False) or "JP-Extra" in version):
        raise ModelError(f"{source}: version {version!r} is not JP-Extra; this runtime speaks JP-Extra voices only")
    if str(model.get("resblock", "1")) != "1":
        raise ModelError(f"{source}: resblock {model['resblock']!r}; only '1' is known")
    defaults = VoiceSize()
    extra: dict[str, Any] = raw.get("rplab", {})
    size = VoiceSize(
        audio=AudioFormat(
            sample_rate=int(data["sampling_rate"]),
            fft_size=int(data["filter_length"]),
            hop_length=int(data["hop_length"]),
            num_mels=int(data.get("n_mel_channels", 128)),
            segment_samples=int(raw.get("train", {}).get("segment_size", 16_384)),
        ),
        num_speakers=int(data["n_speakers"]),
        inter_channels=int(model["inter_channels"]),
        hidden_channels=int(model["hidden_channels"]),
        filter_channels=int(model["filter_channels"]),
        num_heads=int(model["n_heads"]),
        num_layers=int(model["n_layers"]),
        kernel_size=int(model["kernel_size"]),
        dropout=float(model["p_dropout"]),
        speaker_channels=int(model["gin_channels"]),
        num_flows=int(extra.get("num_flows", model.get("n_flow_layer", defaults.num_flows))),
        flow_layers=int(extra.get("flow_layers", model.get("n_layers_trans_flow", defaults.flow_layers))),
        posterior_layers=int(extra.get("posterior_layers", defaults.posterior_layers)),
        duration_channels=int(extra.get("duration_channels", defaults.duration_channels)),
        upsample_rates=tuple(model["upsample_rates"]),
        upsample_kernels=tuple(model["upsample_kernel_sizes"]),
        upsample_channels=int(model["upsample_initial_channel"]),
        resblock_kernels=tuple(model["resblock_kernel_sizes"]),
        resblock_dilations=tuple(tuple(row) for row in model["resblock_dilation_sizes"]),
        bert_channels=int(extra.get("bert_channels", defaults.bert_channels)),
    )
    return VoiceConfigFile(
        size=size,
        name=str(raw.get("model_name", Path(source).parent.name)),
        speakers={str(name): int(index) for name, index in data["spk2id"].items()},
        styles={str(name): int(index) for name, index in data.get("style2id", {"Neutral": 0}).items()},
        version=version,
    )


def to_family(config: VoiceConfigFile) -> dict[str, Any]:
    """Return `config.json` of a voice as the family's programs read it; what they do not know is under `rplab`."""
    size, audio = config.size, config.size.audio
    return {
        "model_name": config.name,
        "train": {"segment_size": audio.segment_samples},
        "data": {
            "use_jp_extra": True,
            "max_wav_value": 32768.0,
            "sampling_rate": audio.sample_rate,
            "filter_length": audio.fft_size,
            "hop_length": audio.hop_length,
            "win_length": audio.fft_size,
            "n_mel_channels": audio.num_mels,
            "mel_fmin": 0.0,
            "mel_fmax": None,
            "add_blank": True,
            "n_speakers": size.num_speakers,
            "cleaned_text": True,
            "spk2id": dict(config.speakers),
            "num_styles": len(config.styles),
            "style2id": dict(config.styles),
        },
        "model": {
            "use_spk_conditioned_encoder": True,
            "use_noise_scaled_mas": True,
            "use_mel_posterior_encoder": False,
            "use_duration_discriminator": False,
            "use_wavlm_discriminator": False,
            "inter_channels": size.inter_channels,
            "hidden_channels": size.hidden_channels,
            "filter_channels": size.filter_channels,
            "n_heads": size.num_heads,
            "n_layers": size.num_layers,
            "kernel_size": size.kernel_size,
            "p_dropout": size.dropout,
            "resblock": "1",
            "resblock_kernel_sizes": list(size.resblock_kernels),
            "resblock_dilation_sizes": [list(row) for row in size.resblock_dilations],
            "upsample_rates": list(size.upsample_rates),
            "upsample_initial_channel": size.upsample_channels,
            "upsample_kernel_sizes": list(size.upsample_kernels),
            "n_layers_q": 3,
            "use_spectral_norm": False,
            "gin_channels": size.speaker_channels,
        },
        "version": config.version,
        "rplab": {
            "num_flows": size.num_flows,
            "flow_layers": size.flow_layers,
            "posterior_layers": size.posterior_layers,
            "duration_channels": size.duration_channels,
            "bert_channels": size.bert_channels,
        },
    }
