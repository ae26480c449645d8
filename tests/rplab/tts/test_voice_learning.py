"""How the voice learns: alignment beforehand, pieces and processes, the speech model's loss, a killed process, TensorBoard."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from rplab.errors import ConfigError, ModelError
from rplab.jsonl import read_rows
from rplab.stage import StageContext
from rplab.tts.checkpoint_io import load_weights
from rplab.tts.clips import align_clips, load_data
from rplab.tts.corpus import make_corpus
from rplab.tts.forced_alignment import align_corpus, token_states
from rplab.tts.model.generator import path_of
from rplab.tts.model.hyper import VoiceConfigFile, from_family, to_family
from rplab.tts.preprocess import preprocess_voice
from rplab.tts.train import train_voice
from rplab.tts.trainer import Trainer
from rplab.tts.training_config import PRESETS, VoiceCorpusConfig, VoicePreprocessConfig
from rplab.tts.wavlm import WavlmDiscriminator, WavlmLoss, to_rate

TINY = {"inter_channels": 8, "hidden_channels": 16, "filter_channels": 32, "speaker_channels": 8, "duration_channels": 16}
SHORT = {"max_steps": 4, "batch_size": 4, "evaluate_every": 4, "save_every": 2, "text_from": 1, "prior_from": 2}


def make_context(home) -> StageContext:
    out, resume = home / "out", home / "resume"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    resume.mkdir(exist_ok=True)
    return StageContext(out, resume, lambda _progress: None)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Sixteen sentences for a network that is as small as it gets."""
    torch.set_num_threads(1)
    corpus = make_context(tmp_path_factory.mktemp("corpus"))
    make_corpus(VoiceCorpusConfig(sentences=16), {}, corpus)
    context = make_context(tmp_path_factory.mktemp("data"))
    preprocess_voice(VoicePreprocessConfig(size="small", validation=2, name="tiny"), {"recordings": corpus.out}, context)
    family = from_family(context.out / "config.json")
    size = replace(family.size, **TINY, posterior_layers=2, upsample_channels=32)
    tiny = VoiceConfigFile(size, family.name, family.speakers, family.styles)
    (context.out / "config.json").write_text(json.dumps(to_family(tiny)), "utf-8")
    return context.out


def settings(**changes):
    return PRESETS["small"].model_copy(update={**SHORT, **changes})


def test_alignment_finds_where_the_sound_changes():
    draw = np.random.default_rng(0)
    levels = draw.normal(size=(6, 8)) * 4
    phones, features, truth = [], [], []
    for _ in range(30):
        chosen = draw.permutation(5)[:4] + 1
        lengths = draw.integers(4, 12, size=4)
        phones.append([0, *(x for phone in chosen for x in (int(phone), 0))])
        features.append((np.repeat(levels[chosen], lengths, axis=0) + draw.normal(size=(lengths.sum(), 8)) * 0.3).astype(np.float32))
        truth.append(lengths)
    report = align_corpus(features, phones)

    assert report.log_likelihood == sorted(report.log_likelihood)
    for row, frames, lengths in zip(report.durations, features, truth, strict=True):
        assert min(row) >= 1
        assert sum(row) == len(frames)
        ends = np.cumsum(row)[2::2]  # a phone ends with the blank after it
        assert np.abs(ends - np.cumsum(lengths)).max() <= 1


def test_a_blank_is_the_second_half_of_the_phone_before_it():
    assert token_states([0, 7, 0, 9, 0]).tolist() == [14, 14, 15, 18, 19]
    path = path_of(torch.tensor([[2, 1, 0], [1, 1, 2]]), 4)
    assert path.argmax(dim=2).tolist()[1] == [0, 1, 2, 2]
    assert path.sum(dim=1).tolist() == [[2, 1, 0], [1, 1, 2]]


def test_durations_of_real_speech_follow_the_pauses(data):
    loaded = load_data(data)
    clips = align_clips(loaded.train, loaded.config.size.audio)

    assert all(sum(clip.durations) == clip.frames and len(clip.durations) == len(clip.phones) for clip in clips)
    assert align_clips(loaded.train, loaded.config.size.audio) == clips


@pytest.mark.parametrize("alignment", ["search", "forced"])
def test_a_step_in_pieces_is_the_same_every_time(data, alignment):
    loaded = load_data(data)
    clips = align_clips(loaded.train, loaded.config.size.audio)[:4]
    config = settings(alignment=alignment, pieces=2, bf16=False, adversarial_from=1, text_from=0, prior_from=0)
    trainers = [Trainer(config, loaded.config.size, torch.device("cpu")) for _ in range(2)]
    losses = [[trainer.train_step(clips, 0) for _ in range(2)] for trainer in trainers]

    assert losses[0] == losses[1]
    assert losses[0][0].feature == 0
    assert losses[0][1].feature > 0


def test_bf16_learns_as_float32_does(data):
    loaded = load_data(data)
    clips = align_clips(loaded.train, loaded.config.size.audio)[:4]
    found = []
    for bf16 in (False, True):
        trainer = Trainer(settings(bf16=bf16, adversarial_from=2, text_from=0), loaded.config.size, torch.device("cpu"))
        found.append([trainer.train_step(clips, 0).mel for _ in range(3)])
        assert all(p.dtype == torch.float32 for p in trainer.generator.parameters())

    assert found[1] == pytest.approx(found[0], rel=0.1)
    assert found[1] != found[0]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def command(data, out, **changes) -> list[str]:
    pairs = [f"{name}={json.dumps(value)}" for name, value in {**SHORT, **changes}.items()]
    program = "from rplab.cli.main import main; raise SystemExit(main())"
    return [
        sys.executable,
        "-c",
        program,
        "tts",
        "train",
        str(data),
        str(out),
        "--preset",
        "small",
        *(x for p in pairs for x in ("--set", p)),
    ]


def losses_of(out) -> list[list[float]]:
    rows = [row for _, row in read_rows(out / "logs/metrics.jsonl") if "mel" in row]
    return [[row[name] for name in ("mel", "kl", "duration", "adversarial", "discriminator", "gradient")] for row in rows]


@pytest.mark.slow
def test_two_processes_give_what_one_gives(data, tmp_path):
    changes = {"max_steps": 3, "evaluate_every": 3, "pieces": 2, "adversarial_from": 2, "bf16": False}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    peers = {**environment, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    started = [
        subprocess.Popen(command(data, tmp_path / "two", **changes), env={**peers, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]
    assert [process.wait(300) for process in started] == [0, 0]
    alone = make_context(tmp_path / "alone")
    train_voice(settings(**changes), {"data": data}, alone)

    one, two = losses_of(alone.out), losses_of(tmp_path / "two")
    assert len(one) == len(two) == 3
    np.testing.assert_allclose(two, one, rtol=1e-3, atol=1e-4)
    assert not list(tmp_path.glob(".work*"))


@pytest.mark.slow
def test_sigkill_and_resume_give_the_same_bytes(data, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    changes = {"max_steps": 4, "save_every": 2, "evaluate_every": 4, "adversarial_from": 3}
    straight = make_context(tmp_path / "straight")
    train_voice(settings(**changes), {"data": data}, straight)
    process = subprocess.Popen(command(data, tmp_path / "killed", **changes), env=environment)
    metrics = tmp_path / ".resume-killed" / "metrics.jsonl"
    until = time.monotonic() + 300
    while not (metrics.is_file() and '"step":3,' in metrics.read_text("utf-8").replace(" ", "")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed").exists()
    subprocess.run(command(data, tmp_path / "killed", **changes), env=environment, check=True, timeout=300)

    for name in ("generator.safetensors", "discriminator.safetensors", "evaluation.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (straight.out / name).read_bytes(), name
    assert not list(tmp_path.glob(".resume*"))


def test_pieces_must_fit_the_processes(data, tmp_path, monkeypatch):
    from rplab.tts import train
    from rplab.tts.ranks import Ranks

    monkeypatch.setattr(train, "join_ranks", lambda _device: Ranks(0, 2))
    with pytest.raises(ConfigError, match="1 pieces cannot be shared by 2 processes"):
        train_voice(settings(), {"data": data}, make_context(tmp_path))


@pytest.fixture(scope="module")
def wavlm(tmp_path_factory):
    from transformers import WavLMConfig, WavLMModel

    folder = tmp_path_factory.mktemp("wavlm")
    torch.manual_seed(0)
    config = WavLMConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(8,) * 7)
    WavLMModel(config.__class__(**{**config.to_dict(), "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2})).save_pretrained(
        folder
    )
    return folder


def test_speech_model_loss_reaches_the_sound_and_nothing_else(wavlm):
    loss = WavlmLoss(wavlm, 44_100)
    real, made = torch.randn(2, 2, 16_384).unbind()
    made.requires_grad_()
    loss.generator_loss(real, made).backward()

    assert made.grad is not None
    assert float(made.grad.abs().sum()) > 0
    assert all(p.grad is None for p in loss.wavlm.parameters())
    with torch.no_grad():
        assert loss.generator_loss(real, real.clone()) < loss.generator_loss(real, made)
    start = float(loss.judge_loss(real, made.detach()).detach())
    optimiser = torch.optim.Adam(loss.judge.parameters(), 1e-2)
    for _ in range(8):
        optimiser.zero_grad()
        loss.judge_loss(real, made.detach()).backward()
        optimiser.step()
    assert float(loss.judge_loss(real, made.detach()).detach()) < start


def test_rate_change_keeps_a_tone():
    time_s = torch.arange(44_100) / 44_100
    heard = to_rate(torch.sin(2 * torch.pi * 440 * time_s)[None], 44_100, 16_000)

    assert heard.shape == (1, 16_000)
    assert torch.allclose(heard[0], torch.sin(2 * torch.pi * 440 * torch.arange(16_000) / 16_000), atol=1e-3)


def test_official_speech_discriminator_loads_and_a_wrong_one_is_named(tmp_path):
    judge = WavlmDiscriminator()
    shapes = {name: tuple(value.shape) for name, value in judge.state_dict().items()}
    assert shapes["pre.weight_v"] == (64, 13 * 768, 1)
    assert shapes["convs.2.weight_v"] == (256, 256, 5)
    assert shapes["conv_post.weight_g"] == (1, 1, 1)
    save_file(judge.state_dict(), tmp_path / "WD_0.safetensors")
    load_weights(WavlmDiscriminator(), tmp_path / "WD_0.safetensors")
    with pytest.raises(ModelError, match=r"pre.weight_v .* instead of"):
        load_weights(WavlmDiscriminator(channels=16, num_states=3), tmp_path / "WD_0.safetensors")
    with pytest.raises(ModelError, match=r"no config\.json"):
        WavlmLoss(tmp_path, 16_000)


def test_a_run_with_speech_model_and_tensorboard_publishes_both(data, wavlm, tmp_path):
    pytest.importorskip("tensorboard")
    context = make_context(tmp_path)
    config = settings(max_steps=2, batch_size=2, evaluate_every=2, adversarial_from=0, text_from=0, tensorboard=True)
    train_voice(config, {"data": data, "wavlm": wavlm}, context)

    rows = [row for _, row in read_rows(context.out / "logs/metrics.jsonl") if "wavlm" in row]
    assert [row["wavlm"] > 0 for row in rows] == [True, True]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(context.out / "logs/tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"mel", "kl", "mcd"} <= set(tags["scalars"])
    assert {"mel/spoken", "mel/recording", "alignment"} <= set(tags["images"])
    assert {"sound/spoken", "sound/recording"} <= set(tags["audio"])


def test_tensorboard_that_is_not_installed_is_named(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match="pip install tensorboard"):
        train_voice(settings(tensorboard=True), {"data": data}, make_context(tmp_path))


def test_averaged_weights_are_published(data, tmp_path):
    context = make_context(tmp_path)
    train_voice(settings(average=0.9, max_steps=2, evaluate_every=2), {"data": data}, context)
    state = torch.load(context.resume / "checkpoint.pt", weights_only=True)
    best = load_file(context.out / "generator.safetensors")
    names = [
        name for name, _ in Trainer(settings(), from_family(data / "config.json").size, torch.device("cpu")).generator.named_parameters()
    ]
    averages = dict(zip(names, state["average"], strict=True))

    rows = json.loads((context.out / "evaluation.json").read_text())["validations"]
    assert len(rows) == 2
    if rows[1]["mcd"] < rows[0]["mcd"]:
        assert all(torch.equal(best[name], averages[name]) for name in names)
        assert any(not torch.equal(best[name], state["generator"][name]) for name in names)
    shutil.rmtree(context.resume)
