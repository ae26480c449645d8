"""GRPO's own reading and writing: a prompt is read once for all its replies, and no number changes."""

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM
from trl.trainer.utils import add_fused_lm_head

from rplab.llm.attention import VARLEN, packed_forward
from rplab.llm.rollouts import draw_replies
from rplab.llm.shared_prefix import share_prefixes, spread

PAD, END = 0, 1
PROMPTS = [[5, 9, 11, 4, 7]] * 3 + [[8, 3]] * 2 + [[6]]
REPLIES = [[10, 12, END], [13], [14, 15, 16, END], [17, END], [18, 19], [20, END]]


@pytest.fixture(scope="module", params=[None, 4], ids=["full", "window"])
def model(request):
    torch.manual_seed(3)
    settings = Qwen3Config(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        max_position_embeddings=64, use_sliding_window=request.param is not None, sliding_window=request.param, max_window_layers=0,
        attn_implementation=VARLEN,
    )  # fmt: skip
    made = Qwen3ForCausalLM(settings).float().eval()
    add_fused_lm_head(made, outputs=("log_probs", "entropy"))
    return made


def padded():
    """Prompts on the left, replies on the right, as TRL pads them."""
    left, right = max(map(len, PROMPTS)), max(map(len, REPLIES))
    ids = torch.full((len(PROMPTS), left + right), PAD)
    mask = torch.zeros_like(ids)
    for row, (prompt, reply) in enumerate(zip(PROMPTS, REPLIES, strict=True)):
        ids[row, left - len(prompt) : left + len(reply)] = torch.tensor(prompt + reply)
        mask[row, left - len(prompt) : left + len(reply)] = 1
    return ids, mask, right


def gradient(model, loss):
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_replies_that_share_their_prompt_score_as_they_do_alone(model):
    ids, mask, columns = padded()
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :-columns] = -100
    alone = model(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0), labels=labels, fused_lm_head=True)
    wanted = alone.log_probs[:, -columns:] * mask[:, -columns:]

    shared = share_prefixes(ids, mask, columns)
    with packed_forward():
        together = model(**shared.inputs, fused_lm_head=True)
    scores = spread(together.log_probs, shared, (len(ids), columns))

    assert len(shared.source) == sum(map(len, REPLIES))
    assert shared.inputs["cu_seq_lens_q"].tolist()[-2] == 4 + 3 * 1 + 8 + 1 + 2 * 1 + 4 + 1 + 2
    assert torch.allclose(scores, wanted, atol=1e-5)
    weights = torch.linspace(-1, 1, wanted.numel()).view_as(wanted)
    assert torch.allclose(gradient(model, (scores * weights).sum()), gradient(model, (wanted * weights).sum()), atol=1e-4)


def test_replies_are_what_generate_writes(model, monkeypatch):
    monkeypatch.setattr(torch, "multinomial", lambda probabilities, _: probabilities.argmax(-1, keepdim=True))

    replies = draw_replies(model, PROMPTS, 12, {END, 7}, PAD)

    for prompt, reply in zip(PROMPTS, replies, strict=True):
        alone = model.generate(
            input_ids=torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=[END, 7], pad_token_id=PAD
        )
        assert reply == alone[0, len(prompt) :].tolist()


def test_draws_follow_the_global_generator_and_end_at_the_end(model):
    def draw():
        torch.manual_seed(7)
        return draw_replies(model, PROMPTS * 4, 10, set(range(20)), PAD)

    first = draw()

    assert first == draw()
    assert all(all(token >= 20 for token in reply[:-1]) for reply in first)
    assert len({tuple(reply) for reply in first[:3]}) > 1
    assert all(len(reply) <= 10 for reply in first)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("window", [None, 4])
def test_the_gpu_kernel_sees_prompts_as_the_cpu_does(window):
    """The kernel aligns the mask of a reply that is shorter than its keys at the end."""
    from rplab.llm.attention import varlen_attention

    ids, mask, columns = padded()
    shared = share_prefixes(ids, mask, columns).inputs
    torch.manual_seed(1)
    tensors = [torch.randn(1, heads, shared["input_ids"].shape[1], 64) for heads in (4, 2, 2)]
    names = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "prefixes")
    wanted, _ = varlen_attention(torch.nn.Module(), *tensors, None, sliding_window=window, **{name: shared[name] for name in names})
    there = share_prefixes(ids.cuda(), mask.cuda(), columns).inputs
    found, _ = varlen_attention(
        torch.nn.Module(), *(tensor.cuda() for tensor in tensors), None, sliding_window=window, **{name: there[name] for name in names}
    )

    assert torch.allclose(found.cpu(), wanted, atol=2e-2)
