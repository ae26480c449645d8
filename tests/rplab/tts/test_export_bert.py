"""BERT export: three variants from one model, each compared, the runtime reads them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from transformers import DebertaV2Config, DebertaV2Model

from rplab.errors import ModelError
from rplab.tts import export_bert as module
from rplab.tts.bert import BertFeatures
from rplab.tts.export_bert import export_bert

CHARACTERS = "明日の朝は早く起きなければりません声駅前新しい喫茶店"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deberta")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = DebertaV2Config(
        vocab_size=64,
        hidden_size=1024,
        num_hidden_layers=3,
        num_attention_heads=16,
        intermediate_size=64,
        relative_attention=True,
        position_buckets=256,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
        max_position_embeddings=512,
    )
    DebertaV2Model(config).save_pretrained(folder)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys(CHARACTERS)]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", "utf-8")
    return folder


def test_all_variants_load_agree_and_speak_to_the_runtime(source, tmp_path):
    export = export_bert(source, tmp_path)

    assert export.refused == {}
    by_name = {variant.name: variant for variant in export.variants}
    assert by_name["fp32"].max_difference <= 1e-4
    assert by_name["fp16"].max_difference <= 1e-2
    assert by_name["int8"].cosine >= 0.998
    assert by_name["int8"].size_bytes < by_name["fp16"].size_bytes < by_name["fp32"].size_bytes
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "config.json",
        "model.onnx",
        "model_fp16.onnx",
        "model_int8.onnx",
        "vocab.txt",
    ]
    session = onnxruntime.InferenceSession(tmp_path / "model_int8.onnx", providers=["CPUExecutionProvider"])
    ids = np.array([[1, 5, 6, 7, 2], [1, 8, 2, 0, 0]])  # other programs send several texts at once
    together, alone = (session.run(None, {"input_ids": i, "attention_mask": (i > 0).astype(np.int64)})[0] for i in (ids, ids[1:, :3]))
    assert np.abs(together[1, :3] - alone[0]).max() <= 0.05 * np.abs(alone).max()
    wanted = BertFeatures(tmp_path, prefer="fp32")("明日の朝")
    for name in ("int8", "fp16"):
        features = BertFeatures(tmp_path, prefer=name)
        assert features.variant == name
        assert features("明日の朝").shape == wanted.shape == (6, 1024)


@pytest.mark.parametrize("length", [3, 17, 60])
def test_cutting_out_the_rows_of_a_text_changes_no_number(source, length):
    plain = DebertaV2Model.from_pretrained(source, attn_implementation="eager").eval()
    plain.encoder.layer = plain.encoder.layer[:1]
    ids = torch.randint(4, 30, (2, length), generator=torch.Generator().manual_seed(length))
    mask = torch.ones_like(ids)
    mask[1, length // 2 :] = 0
    with torch.no_grad():
        wanted = plain(input_ids=ids, attention_mask=mask).last_hidden_state
        got = module._load(source)(ids, mask)

    assert torch.equal(got, wanted)


def test_int8_keeps_the_tables_of_relative_positions_small(source, tmp_path):
    export_bert(source, tmp_path, variants=("int8",))
    tensors = onnx.load(tmp_path / "model_int8.onnx").graph.initializer
    tables = [tensor for tensor in tensors if list(tensor.dims) == [16, 512, 64]]

    assert len(tables) == 2
    assert {tensor.data_type for tensor in tables} == {onnx.TensorProto.FLOAT16}


def test_variant_that_is_too_far_off_is_not_left_behind(source, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FP16_TOLERANCE", 0.0)
    (tmp_path / "model_fp16.onnx").write_bytes(b"older")
    export = export_bert(source, tmp_path, variants=("fp16",))

    assert "too far" in export.refused["fp16"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.onnx", "vocab.txt"]


def test_incomplete_source_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"vocab\.txt"):
        export_bert(tmp_path, tmp_path / "out")
    (tmp_path / "vocab.txt").write_text("[CLS]\n[SEP]\n[UNK]\n", "utf-8")
    with pytest.raises(ModelError, match=r"config\.json"):
        export_bert(tmp_path, tmp_path / "out")
