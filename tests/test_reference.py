"""Our attention, encoder and decoder against tensors recorded from R2Gen's and R2GenCMN's own
code; UAR_REFERENCE names the folder."""

import json
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

from uar_nb.attention import Decoder, DecoderLayer, Encoder, EncoderLayer, MultiHeadAttention
from uar_nb.variants.memory import Memory

FOLDER = os.environ.get('UAR_REFERENCE')
pytestmark = pytest.mark.skipif(
    not FOLDER,
    reason='UAR_REFERENCE is not set: it names the folder with r2gen.safetensors and r2gencmn.safetensors',  # noqa: E501
)


def recorded(name):
    "All recorded tensors of a peer, and its sizes."
    with safe_open(str(Path(FOLDER) / f'{name}.safetensors'), 'pt') as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (no dict)
        return tensors, json.loads(file.metadata()['config'])


def load_attention(ours, tensors, prefix):
    "Their four linear layers are query, key, value, output."
    for i, linear in enumerate((ours.q, ours.k, ours.v, ours.out)):
        linear.load_state_dict(
            {n: tensors[f'{prefix}.linears.{i}.{n}'] for n in ('weight', 'bias')}
        )


def load_norm(ours, tensors, prefix):
    """Their norm divides by the unbiased standard deviation + 1e-6; ours by the biased one, so
    the gain takes the difference."""
    gain, shift = ('gamma', 'beta') if f'{prefix}.gamma' in tensors else ('a_2', 'b_2')
    d = tensors[f'{prefix}.{gain}'].numel()
    ours.eps = 0.0
    ours.load_state_dict(
        {
            'weight': tensors[f'{prefix}.{gain}'] * ((d - 1) / d) ** 0.5,
            'bias': tensors[f'{prefix}.{shift}'],
        }
    )


def load_layer(ours, tensors, prefix, norms):
    "A whole encoder or decoder layer."
    load_attention(ours.attention, tensors, f'{prefix}.self_attn')
    if norms == 3:
        load_attention(ours.cross, tensors, f'{prefix}.src_attn')
    for linear, name in ((ours.feed_forward.inner, 'w_1'), (ours.feed_forward.outer, 'w_2')):
        linear.load_state_dict(
            {n: tensors[f'{prefix}.feed_forward.{name}.{n}'] for n in ('weight', 'bias')}
        )
    for i in range(norms):
        load_norm(getattr(ours, f'norm{i + 1}'), tensors, f'{prefix}.sublayer.{i}.norm')


@pytest.mark.parametrize('peer', ['r2gen', 'r2gencmn'])
def test_encoder_equals_peers(peer):
    tensors, c = recorded(peer)
    encoder = Encoder(
        [EncoderLayer(c['d_model'], c['num_heads'], c['d_ff'], 0.0) for _ in range(c['num_layers'])]
    ).eval()
    for i, layer in enumerate(encoder.layers):
        load_layer(layer, tensors, f'w.model.encoder.layers.{i}', 2)
    load_norm(encoder.norm, tensors, 'w.model.encoder.norm')
    out = encoder(tensors['act_in.encoder.0'], tensors['act_in.encoder.1'][:, 0].bool())
    torch.testing.assert_close(out, tensors['act.encoder'], atol=2e-5, rtol=1e-4)


def cmn_decoder():
    "Our decoder with R2GenCMN's weights, and the recorded tensors."
    tensors, c = recorded('r2gencmn')
    d, heads = c['d_model'], c['num_heads']
    decoder = Decoder(
        [
            DecoderLayer(d, heads, c['d_ff'], 0.0, MultiHeadAttention(d, heads))
            for _ in range(c['num_layers'])
        ]
    ).eval()
    for i, layer in enumerate(decoder.layers):
        load_layer(layer, tensors, f'w.model.decoder.layers.{i}', 3)
    load_norm(decoder.norm, tensors, 'w.model.decoder.norm')
    return decoder, tensors


def test_decoder_equals_r2gencmn():
    decoder, tensors = cmn_decoder()
    x, memory, image_mask, text_mask = (tensors[f'act_in.decoder.{i}'] for i in range(4))
    contexts, allowed = decoder.prepare(memory), image_mask[:, 0].bool()
    out, words = decoder(x, contexts, allowed).h, text_mask[:, -1].bool()
    assert words.sum() > 20
    torch.testing.assert_close(out[words], tensors['act.decoder'][words], atol=2e-5, rtol=1e-4)
    logits = F.linear(out, tensors['w.logit.weight'], tensors['w.logit.bias'])
    torch.testing.assert_close(
        logits.log_softmax(-1)[words], tensors['out.logprobs'][words], atol=5e-5, rtol=1e-4
    )
    cache = decoder.open_cache(len(x), x.shape[1])
    steps = torch.cat(
        [decoder.step(x[:, t : t + 1], cache, contexts, allowed).h for t in range(x.shape[1])], 1
    )
    torch.testing.assert_close(steps[words], tensors['act.decoder'][words], atol=2e-5, rtol=1e-4)


def test_memory_of_r2gencmn_is_attention_to_the_best_few():
    tensors, c = recorded('r2gencmn')
    ours = MultiHeadAttention(c['d_model'], c['num_heads']).eval()
    load_attention(ours, tensors, 'w.cmn')
    x, memory = tensors['act_in.cmn.0'], tensors['act_in.cmn.1'][:1]
    assert torch.equal(tensors['act_in.cmn.1'], tensors['act_in.cmn.2'])
    kv = ours.keys_values(memory)
    weights = ours.attend(x, kv, weights=True).weights
    best = torch.zeros_like(weights, dtype=torch.bool).scatter(
        -1, weights.topk(c['topk']).indices, True
    )
    torch.testing.assert_close(ours(x, kv, best), tensors['act.cmn'], atol=2e-5, rtol=1e-4)


def test_memory_module_equals_r2gencmn():
    tensors, c = recorded('r2gencmn')
    memory = Memory(c['d_model'], c['num_heads'], size=c['cmm_size'], topk=c['topk']).eval()
    load_attention(memory.attention, tensors, 'w.cmn')
    memory.B.data.copy_(tensors['w.memory_matrix'])
    x = tensors['act_in.cmn.0']
    torch.testing.assert_close(
        memory(x, trace=True)[1]['attended'], tensors['act.cmn'], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(memory(x), x + tensors['act.cmn'], atol=1e-5, rtol=0)
    rows, ids = x.flatten(0, 1), torch.arange(40).flip(0).repeat(2)
    torch.testing.assert_close(
        memory(rows, kv=memory.keys_values())[ids],
        (x + tensors['act.cmn']).flatten(0, 1)[ids],
        atol=1e-5,
        rtol=0,
    )
    assert torch.equal(
        tensors['w.model.cmn.linears.0.weight'], tensors['w.cmn.linears.0.weight']
    )  # one module for both modalities
