"""Our attention, encoder and decoder, and whole systems, against tensors recorded from R2Gen's
and R2GenCMN's own code; UAR_REFERENCE names the folder."""

import json
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

from uar_nb.attention import Decoder, DecoderLayer, Encoder, EncoderLayer, MultiHeadAttention
from uar_nb.config import SystemConfig
from uar_nb.core import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from uar_nb.generation import generate, word_log_probs
from uar_nb.systems.catalogue import make_model
from uar_nb.systems.writers import Grid
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


@pytest.fixture(autouse=True)
def their_norm(monkeypatch):
    """Their norm divides by the unbiased standard deviation + 1e-6, PyTorch's by the root of the
    biased variance + eps. Everything else of a norm is the module's own."""

    def norm(x, shape, weight=None, bias=None, eps=None):
        x = (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6)
        return x if weight is None else weight * x + bias

    monkeypatch.setattr(F, 'layer_norm', norm)


def load_norm(ours, tensors, prefix):
    "Gain and bias of a norm, under either name."
    gain, shift = ('gamma', 'beta') if f'{prefix}.gamma' in tensors else ('a_2', 'b_2')
    ours.load_state_dict(
        {'weight': tensors[f'{prefix}.{gain}'], 'bias': tensors[f'{prefix}.{shift}']}
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


# ---- whole systems: with the weights of public code they say what it says

FIRST_WORD = UNK_ID  # theirs have 0 for start, end and padding, and words from 1 on


def our_ids(ids):
    "Reports [B, T] in our numbers: start, end, padding and words have numbers of their own."
    rows = []
    for row in ids.tolist():
        words = row[1 : row.index(0, 1)] if 0 in row[1:] else row[1:]
        ends = [EOS_ID] if len(words) < len(row) - 1 else []
        ours = [BOS_ID, *(w - 1 + FIRST_WORD for w in words), *ends]
        rows.append(ours + [PAD_ID] * (len(row) - len(ours)))
    return torch.tensor(rows)


def our_rows(theirs, of_zero):
    "A table with a row a word in our numbers; `of_zero` names the special id that has their row 0."
    ours = torch.zeros(len(theirs) - 1 + FIRST_WORD, *theirs.shape[1:])
    ours[FIRST_WORD:] = theirs[1:]
    ours[of_zero] = theirs[0]
    return ours


def load_linear(ours, tensors, path):
    "A linear layer under their name."
    ours.load_state_dict({n: tensors[f'{path}.{n}'] for n in ('weight', 'bias')})


def load_conditional_norm(ours, tensors, prefix):
    "A norm that listens to the memory."
    for mlp, theirs in ((ours.gain_mlp, 'mlp_gamma'), (ours.bias_mlp, 'mlp_beta')):
        for i in (0, 2):
            load_linear(mlp[i], tensors, f'{prefix}.{theirs}.{i}')
    ours.weight.copy_(tensors[f'{prefix}.gamma'])
    ours.bias.copy_(tensors[f'{prefix}.beta'])


def load_relational(memory, tensors):
    "R2Gen's relational memory."
    load_attention(memory.attention, tensors, 'w.model.rm.attn')
    for linear, name in (
        (memory.mlp[0], 'mlp.0'),
        (memory.mlp[2], 'mlp.2'),
        (memory.word_gates, 'W'),
        (memory.memory_gates, 'U'),
    ):
        load_linear(linear, tensors, f'w.model.rm.{name}')


def load_decoder_layer(layer, tensors, prefix, conditional):
    "A decoder layer with plain or with conditional norms."
    load_attention(layer.attention, tensors, f'{prefix}.self_attn')
    load_attention(layer.cross, tensors, f'{prefix}.src_attn')
    load_linear(layer.feed_forward.inner, tensors, f'{prefix}.feed_forward.w_1')
    load_linear(layer.feed_forward.outer, tensors, f'{prefix}.feed_forward.w_2')
    load = load_conditional_norm if conditional else load_norm
    for i in range(3):
        load(getattr(layer, f'norm{i + 1}'), tensors, f'{prefix}.sublayer.{i}.norm')


@torch.no_grad()
def system(peer):
    "(our system with their weights, the recorded tensors)"
    tensors, c = recorded(peer)
    words = len(tensors['w.logit.weight']) - 1 + FIRST_WORD
    config = SystemConfig(
        writer={'r2gen': 'r2gen', 'r2gencmn': 'r2gen_cmn'}[peer],
        text_vocab=words,
        visual='tokens',
        image_vocab=2,
        d=c['d_model'],
        d_ff=c['d_ff'],
        heads=c['num_heads'],
        layers=c['num_layers'],
        memory_slots=c['rm_num_slots'],
        memory_size=c['cmm_size'],
        memory_topk=c['topk'],
        max_words=c['max_seq_length'],
        positions='sine' if peer == 'r2gencmn' else 'none',
    )
    model = make_model(config).eval()
    model.embed_places.linear = torch.nn.Linear(c['d_vf'], c['d_model'])
    load_linear(model.embed_places.linear, tensors, 'w.att_embed.0')
    for i, layer in enumerate(model.encoder.layers):
        load_layer(layer, tensors, f'w.model.encoder.layers.{i}', 2)
    load_norm(model.encoder.norm, tensors, 'w.model.encoder.norm')
    for i, layer in enumerate(model.decoder.layers):
        load_decoder_layer(layer, tensors, f'w.model.decoder.layers.{i}', peer == 'r2gen')
    load_norm(model.decoder.norm, tensors, 'w.model.decoder.norm')
    model.words.weight.copy_(our_rows(tensors['w.model.tgt_embed.0.lut.weight'], BOS_ID))
    model.head.weight.copy_(our_rows(tensors['w.logit.weight'], EOS_ID))
    model.head.bias.copy_(our_rows(tensors['w.logit.bias'], EOS_ID))
    if peer == 'r2gen':
        load_relational(model.memory, tensors)
    else:
        load_attention(model.memory.attention, tensors, 'w.cmn')
        model.memory.B.copy_(tensors['w.memory_matrix'])
    return model, tensors


def encoded(model, tensors):
    "The images as the system knows them, from the recorded features."
    features = tensors['in.feats']
    there = torch.ones(features.shape[:2], dtype=torch.bool)
    return model.encode(Grid(features, there, features.mean(1)))


def words_read(tensors):
    "bool [B, T]: where their decoder reads a word, or the start."
    words = tensors['in.ids'][:, :-1] > 0
    words[:, 0] = True
    return words


def test_relational_memory_equals_r2gen():
    """Each step from their memory before it. Rounding grows on the way in two of the four studies:
    there their 32 bits are as far from our 64 as our own 32 are."""
    model, tensors = system('r2gen')
    y, theirs = tensors['act_in.rm.0'], tensors['act.rm']
    read = model.read_words(our_ids(tensors['in.ids'])[:, :-1])
    torch.testing.assert_close(read[words_read(tensors)], y[words_read(tensors)], atol=1e-5, rtol=0)
    first = model.memory.first(len(y))
    assert torch.equal(first, tensors['act_in.rm.1'])
    before = torch.cat([first[:, None], theirs[:, :-1].unflatten(-1, (3, -1))], 1)
    steps = model.memory.step(y.flatten(0, 1), before.flatten(0, 1))
    torch.testing.assert_close(steps.flatten(1), theirs.flatten(0, 1), atol=1e-5, rtol=0)
    ours = model.memory.run(y)
    torch.testing.assert_close(ours[:2], theirs[:2], atol=1e-5, rtol=0)
    exact = model.double().memory.run(y.double())
    assert (theirs - exact).abs().max() < 3 * (ours - exact).abs().max()


def test_conditional_norms_and_layers_equal_r2gen():
    model, tensors = system('r2gen')
    layer, memory = model.decoder.layers[0], tensors['act_in.norm0.1']
    normal = layer.norm1(tensors['act_in.norm0.0'], memory)
    torch.testing.assert_close(normal, tensors['act.norm0'], atol=1e-5, rtol=1e-5)
    x = tensors['act_in.decoder_sublayer.0']
    h = layer.norm1(x, tensors['act_in.decoder_sublayer.2'])
    read = layer.attention.attend(h, layer.attention.keys_values(h), causal=True).out
    words = words_read(tensors)
    wanted = tensors['act.decoder_sublayer'][words]
    torch.testing.assert_close((x + read)[words], wanted, atol=1e-5, rtol=1e-5)


def assert_near(peer, ours, name):
    """`ours(model, tensors)` equals a recorded tensor to 1e-5 where words are read, beside what
    32 bits lose of it (our own against our 64). R2Gen's memory is the one that they recorded."""
    results = []
    for kind in (torch.float32, torch.float64):
        model, tensors = system(peer)
        tensors = {k: v.to(kind) if v.is_floating_point() else v for k, v in tensors.items()}
        if peer == 'r2gen':
            model.memory.run = lambda y, memory=tensors['act.rm']: memory
        results.append(ours(model.to(kind), tensors)[words_read(tensors)])
    lost = (results[0] - results[1]).abs().amax(-1, keepdim=True)
    assert lost.median() < 1e-5 and lost.max() < 1e-4
    difference = (results[0] - tensors[name][words_read(tensors)]).abs()
    assert (difference <= 1e-5 + lost).all(), float(difference.max())


def test_decoder_equals_r2gen():
    def hidden(model, tensors):
        images, y = encoded(model, tensors), tensors['act_in.decoder.0']
        torch.testing.assert_close(images.features, tensors['act.encoder'], atol=1e-5, rtol=0)
        return model.decoder(y, model.contexts(images, y)).h

    assert_near('r2gen', hidden, 'act.decoder')


@pytest.mark.parametrize('peer', ['r2gen', 'r2gencmn'])
def test_log_probabilities_equal_peers(peer):
    def log_probs(model, tensors):
        ids = our_ids(tensors['in.ids'])
        logits = model.unroll(ids[:, :-1], encoded(model, tensors)).logits
        return word_log_probs(logits)[..., [EOS_ID, *range(FIRST_WORD, logits.shape[-1])]]

    assert_near(peer, log_probs, 'out.logprobs')


@pytest.mark.parametrize('peer', ['r2gen', 'r2gencmn'])
@pytest.mark.parametrize('beams', [1, 3])
def test_searches_equal_peers(peer, beams):
    "The same reports, and the log-probability of each word (R2Gen's: as far as rounding goes)."
    model, tensors = system(peer)
    written = generate(model, None, beams=beams, memory=encoded(model, tensors))
    theirs = tensors[f'out.beam{beams}.ids']
    eps = 5e-3 if peer == 'r2gen' else 2e-5
    for study, row in enumerate(theirs.tolist()):
        words = row[: row.index(0)] if 0 in row else row
        assert written.ids[study] == [w - 1 + FIRST_WORD for w in words]
        at = torch.tensor(words)[:, None]
        logs = tensors[f'out.beam{beams}.logprobs'][study, : len(words)].gather(1, at)[:, 0]
        torch.testing.assert_close(torch.tensor(written.logprobs[study]), logs, atol=eps, rtol=0)
