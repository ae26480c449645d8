"""The network against tables and recordings of the reference: keys, shapes, every module, losses, checkpoints."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from rplab.errors import ModelError
from rplab.tts.checkpoint_io import inference_state, load_weights, save_weights
from rplab.tts.losses import adversarial_loss, discriminator_loss, feature_loss, kl_loss
from rplab.tts.mel import log_mel, spectrogram
from rplab.tts.mel_filters import mel_filters
from rplab.tts.model.alignment import find_path
from rplab.tts.model.attention import band_to_square, square_to_band
from rplab.tts.model.discriminator import Discriminator
from rplab.tts.model.generator import Generator
from rplab.tts.model.hyper import AudioFormat, VoiceConfigFile, VoiceSize, from_family, to_family
from rplab.tts.model.layers import fold_weights
from rplab.tts.model.spline import rational_quadratic

ASSETS = Path(__file__).parents[2] / "assets/tts"
TINY = VoiceSize(
    num_speakers=4,
    inter_channels=32,
    hidden_channels=32,
    filter_channels=64,
    num_layers=3,
    upsample_channels=32,
    speaker_channels=32,
)
MODULE_TOLERANCE = 1e-5
AUDIO_TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def generator():
    torch.set_num_threads(1)
    model = Generator(TINY).eval()
    model.load_state_dict(load_file(ASSETS / "tiny_generator.safetensors"))
    return model


@pytest.fixture(scope="module")
def io():
    return {name: torch.from_numpy(value) for name, value in np.load(ASSETS / "tiny_generator_io.npz").items()}


def difference(a, b):
    assert a.shape == b.shape
    return float((a - b).abs().max())


@pytest.mark.parametrize(
    ("table", "build"),
    [("jp_extra_G_shapes.json", lambda: Generator(VoiceSize(num_speakers=512))), ("jp_extra_D_shapes.json", Discriminator)],
)
def test_full_size_keys_and_shapes_equal_the_official_table(table, build):
    wanted = json.loads((ASSETS / table).read_text())
    with torch.device("meta"):
        state = build().state_dict()

    assert {key: list(value.shape) for key, value in state.items()} == wanted


@torch.no_grad()
def test_text_encoder_equals_the_reference(generator, io):
    mask = torch.ones(1, 1, io["x"].shape[1])
    hidden, mean, logs = generator.enc_p(io["x"], io["tone"], io["lang"], io["bert"], io["style"], mask, generator.speaker(io["sid"]))

    assert difference(hidden, io["enc_h"]) <= MODULE_TOLERANCE
    assert difference(mean, io["enc_m"]) <= MODULE_TOLERANCE
    assert difference(logs, io["enc_logs"]) <= MODULE_TOLERANCE


@torch.no_grad()
def test_duration_predictors_equal_the_reference(generator, io):
    speaker, mask = generator.speaker(io["sid"]), torch.ones(1, 1, io["x"].shape[1])

    assert difference(generator.dp(io["enc_h"], mask, speaker), io["dp_logw"]) <= MODULE_TOLERANCE
    assert difference(generator.sdp.sample(io["enc_h"], mask, speaker, io["sdp_noise"]), io["sdp_logw"]) <= MODULE_TOLERANCE


@torch.no_grad()
def test_posterior_and_flow_equal_the_reference(generator, io):
    speaker, mask = generator.speaker(io["sid"]), torch.ones(1, 1, io["spec"].shape[2])
    mean, logs = generator.enc_q(io["spec"], mask, speaker)

    assert difference(mean, io["enc_q_m"]) <= MODULE_TOLERANCE
    assert difference(logs, io["enc_q_logs"]) <= MODULE_TOLERANCE
    assert difference(generator.flow(io["z"], mask, speaker), io["flow_fwd"]) <= MODULE_TOLERANCE
    assert difference(generator.flow(io["z"], mask, speaker, reverse=True), io["flow_rev"]) <= MODULE_TOLERANCE


@torch.no_grad()
def test_decoder_and_whole_sentence_equal_the_reference(generator, io):
    frames = io["dec_audio"].shape[2] // TINY.audio.hop_length
    audio = generator.dec(io["z"][:, :, :frames], generator.speaker(io["sid"]))
    spoken, durations = generator.infer(
        io["x"],
        io["tone"],
        io["lang"],
        io["bert"],
        io["style"],
        io["sid"],
        noise_duration=torch.zeros_like(io["sdp_noise"]),
        noise_latent=torch.zeros(1, 32, 400),
        sdp_ratio=0.3,
    )

    assert difference(audio, io["dec_audio"]) <= AUDIO_TOLERANCE
    assert torch.equal(durations, io["infer_durations"])
    assert difference(spoken, io["infer_audio"]) <= AUDIO_TOLERANCE


@torch.no_grad()
def test_folding_weight_norm_changes_nothing(generator, io):
    folded = Generator(TINY).eval()
    folded.load_state_dict(generator.state_dict())
    count = fold_weights(folded)
    speaker = generator.speaker(io["sid"])

    assert count == 5 + 90 + 33
    assert difference(folded.dec(io["z"][:, :, :20], speaker), generator.dec(io["z"][:, :, :20], speaker)) <= 1e-6


def test_flow_and_spline_are_invertible(generator, io):
    speaker, mask = generator.speaker(io["sid"]), torch.ones(1, 1, 120)
    with torch.no_grad():
        back = generator.flow(generator.flow(io["z"], mask, speaker), mask, speaker, reverse=True)
    torch.manual_seed(0)
    x = torch.linspace(-7, 7, 200).reshape(1, 1, 200).requires_grad_()
    widths, heights, slopes = torch.randn(1, 1, 200, 10), torch.randn(1, 1, 200, 10), torch.randn(1, 1, 200, 9)
    y, log_slope = rational_quadratic(x, widths, heights, slopes, reverse=False, tail=5.0)
    again, inverse_slope = rational_quadratic(y.detach(), widths, heights, slopes, reverse=True, tail=5.0)
    (gradient,) = torch.autograd.grad(y.sum(), x)

    assert difference(back, io["z"]) <= 1e-4
    assert difference(again, x.detach()) <= 1e-4
    assert difference(gradient.log(), log_slope.detach()) <= 1e-3
    assert difference(inverse_slope, -log_slope.detach()) <= 1e-3


def test_relative_band_lands_on_the_diagonals():
    band = torch.randn(2, 2, 7, 9)
    square = band_to_square(band)

    for t, s in itertools.product(range(7), range(7)):
        wanted = band[:, :, t, s - t + 4] if abs(s - t) <= 4 else torch.zeros(2, 2)
        assert torch.equal(square[:, :, t, s], wanted)
    inside = torch.tensor([[[0 <= t + o - 4 < 7 for o in range(9)] for t in range(7)]])
    assert torch.equal(square_to_band(square), band * inside)


def test_alignment_finds_the_best_monotonic_path():
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(3, 7, 4)).astype(np.float32)
    frames, phones = np.array([7, 5, 4]), np.array([4, 2, 4])
    paths = find_path(scores, frames, phones)

    for row, num_frames, num_phones in zip(range(3), frames, phones, strict=True):
        best = max(
            sum(scores[row, s, sum(s >= cut for cut in cuts)] for s in range(num_frames))
            for cuts in itertools.combinations(range(1, num_frames), num_phones - 1)
        )
        path = paths[row]
        assert np.isclose((path * scores[row]).sum(), best, atol=1e-5)
        assert path[:num_frames].sum(axis=1).tolist() == [1.0] * num_frames
        assert path[num_frames:].sum() == 0
        assert (path.sum(axis=0)[:num_phones] >= 1).all()


def test_decoder_reach_is_exact(generator, io):
    reach = TINY.overlap_frames
    z = io["z"][:, :, :60]
    speaker = generator.speaker(io["sid"])
    hop = TINY.audio.hop_length
    with torch.no_grad():
        whole = generator.dec(z, speaker)[:, :, 25 * hop : 35 * hop]
        exact = generator.dec(z[:, :, 25 - reach : 35 + reach], speaker)[:, :, reach * hop : (reach + 10) * hop]

    assert reach == 13
    assert difference(whole, exact) <= 1e-6


def test_training_step_reaches_every_parameter(io):
    torch.manual_seed(0)
    model, judge = Generator(TINY), Discriminator(width=1 / 16, periods=(2, 3))
    spec = io["spec"].repeat(2, 1, 1)
    audio = torch.randn(2, 120 * 512) * 0.1
    ids = {name: io[name].repeat(2, 1) for name in ("x", "tone", "lang", "style")}
    out = model(
        ids["x"],
        torch.tensor([37, 30]),
        ids["tone"],
        ids["lang"],
        io["bert"].repeat(2, 1, 1),
        ids["style"],
        spec,
        torch.tensor([120, 100]),
        torch.tensor([0, 1]),
        noise_mas=0.01,
    )
    real = torch.stack([a[s * 512 : s * 512 + 16384] for a, s in zip(audio, out.starts.tolist(), strict=True)]).unsqueeze(1)
    verdict_real, verdict_made = judge.compare(real, out.audio)
    loss = adversarial_loss(verdict_made) + feature_loss(verdict_real, verdict_made) + out.duration_loss + out.stochastic_loss
    loss = loss + kl_loss(out.z_p, out.logs_q, out.mean_p, out.logs_p, out.mask) + discriminator_loss(verdict_real, verdict_made)
    loss = loss + (log_mel(spectrogram(out.audio.squeeze(1), TINY.audio), TINY.audio)).abs().mean()
    loss.backward()

    assert torch.isfinite(loss)
    assert out.path.sum(dim=2).sum(dim=1).tolist() == [120.0, 100.0]
    silent = [name for name, p in (*model.named_parameters(), *judge.named_parameters()) if p.grad is None]
    assert silent == []


def test_spectrogram_has_one_frame_per_hop_and_known_level():
    audio_format = AudioFormat()
    time = torch.arange(44_100) / 44_100
    magnitude = spectrogram(torch.sin(2 * torch.pi * 44_100 / 2048 * 100 * time)[None], audio_format)
    filters = mel_filters(44_100, 2048, 128)

    assert magnitude.shape == (1, 1025, 44_100 // 512)
    assert int(magnitude[0, :, 40].argmax()) == 100
    assert abs(float(magnitude[0, 100, 40]) - 512.0) < 1.0  # sum of a Hann window of 2048 / 2
    assert filters.shape == (128, 1025)
    assert np.allclose(filters[5:].sum(axis=1) * 44_100 / 2048, 1.0, atol=0.2)  # equal areas


def test_losses_are_zero_where_they_should_be():
    ones, zeros = [(torch.ones(2, 3), [torch.ones(2, 3)])], [(torch.zeros(2, 3), [torch.ones(2, 3)])]
    z, mask = torch.zeros(1, 2, 5), torch.ones(1, 1, 5)

    assert float(discriminator_loss(ones, zeros)) == 0
    assert float(adversarial_loss(ones)) == 0
    assert float(feature_loss(ones, zeros)) == 0
    assert float(kl_loss(z, z, z, z, mask)) == pytest.approx(-0.5 * 2)  # the -1/2 of the entropy at the mean


def test_weights_round_trip_and_inference_files_lack_the_posterior(generator, tmp_path):
    path = tmp_path / "voice.safetensors"
    save_weights(path, inference_state(generator.state_dict()))
    other = Generator(TINY)
    report = load_weights(other, path, allow_no_posterior=True)

    assert report.fresh == ("enc_q",)
    assert torch.equal(other.dec.conv_pre.weight, generator.dec.conv_pre.weight)
    with pytest.raises(ModelError, match=r"missing: enc_q\.pre\.weight"):
        load_weights(other, path)
    first = path.read_bytes()
    save_weights(path, inference_state(generator.state_dict()))
    assert path.read_bytes() == first


def test_checkpoint_mismatch_is_loud(generator, tmp_path):
    state = dict(generator.state_dict())
    path = tmp_path / "G_0.safetensors"
    save_file({**{k: v.clone() for k, v in state.items() if k != "emb_g.weight"}, "iteration": torch.tensor(7)}, path)
    model = Generator(TINY)

    report = load_weights(model, path, allow_speakers=True)
    assert (report.fresh, report.iteration) == (("emb_g.weight",), 7)
    with pytest.raises(ModelError, match=r"emb_g\.weight"):
        load_weights(model, path)
    save_file({**{k: v.clone() for k, v in state.items()}, "surprise": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="1 unknown: surprise"):
        load_weights(model, path)
    wider = Generator(VoiceSize(**{**TINY.__dict__, "filter_channels": 128}))
    save_file({k: v.clone() for k, v in state.items()}, path)
    with pytest.raises(ModelError, match="of another shape"):
        load_weights(wider, path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="not a readable checkpoint"):
        load_weights(model, path)
    with pytest.raises(ModelError, match="no such file"):
        load_weights(model, tmp_path / "none.safetensors")


def test_pth_of_a_running_training_is_read_and_pickles_are_refused(generator, tmp_path):
    path = tmp_path / "G_100.pth"
    torch.save({"model": generator.state_dict(), "iteration": 100, "learning_rate": 1e-4}, path)
    report = load_weights(Generator(TINY), path)

    assert report.iteration == 100
    torch.save({"model": Path("x")}, path)
    with pytest.raises(ModelError, match=r"refused|not a readable"):
        load_weights(Generator(TINY), path)


def test_family_config_round_trips(tmp_path):
    wanted = VoiceConfigFile(TINY, "tiny", {"a": 0, "b": 1}, {"Neutral": 0})
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_family(wanted)), "utf-8")

    assert from_family(path) == wanted
    path.write_text("{}", "utf-8")
    with pytest.raises(ModelError, match="not a JP-Extra config"):
        from_family(path)
    raw = to_family(wanted)
    raw["data"]["use_jp_extra"], raw["version"] = False, "2.3"
    path.write_text(json.dumps(raw), "utf-8")
    with pytest.raises(ModelError, match="not JP-Extra"):
        from_family(path)
