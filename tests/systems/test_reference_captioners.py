"""Show and Tell, FC, Att2in, AdaAtt and Top-Down against tensors recorded from the public code;
UAR_REFERENCE names the folder."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from uar_nb.config import SystemConfig
from uar_nb.core import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from uar_nb.generation import generate, word_log_probs
from uar_nb.systems.catalogue import make_model
from uar_nb.systems.writers import Grid, ImageEmbedding

FOLDER = os.environ.get('UAR_REFERENCE')
pytestmark = pytest.mark.skipif(
    not FOLDER,
    reason='UAR_REFERENCE is not set: it names the folder with captioners.safetensors',
)
SHIFT = UNK_ID  # their word n is ours n + 3; their 0 is our <bos>, <eos> or <pad>
FORMS = {
    'showtell': dict(writer='show_tell', image_embedding='linear', cell_bias=False),
    'fc': dict(writer='show_tell', image_embedding='linear', cell='maxout'),
    'att2in': dict(writer='att2in', image_embedding='none'),
    'att2in2': dict(writer='att2in', word_relu=True),
    'adaatt': dict(writer='adaatt', word_relu=True, extra_layers=True),
    'updown': dict(writer='top_down', word_relu=True),
}
# names of models whose words pass a ReLU, and of those whose words do not
EMBED = {'words.weight': 'embed.0.weight', 'head.weight': 'logit.weight', 'head.bias': 'logit.bias'}
PLAIN = {**EMBED, 'words.weight': 'embed.weight'}
ATTENTION = {
    'attention.value.weight': 'ctx2att.weight',
    'attention.value.bias': 'ctx2att.bias',
    'attention.query.weight': 'core.attention.h2att.weight',
    'attention.query.bias': 'core.attention.h2att.bias',
    'attention.score.weight': 'core.attention.alpha_net.weight',
}
PLACES = {'embed_places.linear': 'att_embed.0'}
MAXOUT = {'cell.input': 'core.i2h', 'cell.hidden': 'core.h2h'}
CELLS = {'look_cell': 'core.att_lstm', 'word_cell': 'core.lang_lstm'}


@pytest.fixture(scope='module')
def recorded():
    "All recorded tensors, and the sizes."
    with safe_open(str(Path(FOLDER) / 'captioners.safetensors'), 'pt') as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no dict)
        return tensors, json.loads(file.metadata()['config'])


def whole(names):
    "Names of layers as those of their weights and biases."
    return {f'{a}.{end}': f'{b}.{end}' for a, b in names.items() for end in ('weight', 'bias')}


def of_adaatt(w):
    "AdaAtt's weights; its gates stand in the order input, forget, output, cell."
    d = w['core.lstm.h2h.0.bias'].numel() // 4
    order = torch.cat([torch.arange(i * d, (i + 1) * d) for i in (0, 1, 3, 2)])
    inside = 'core.attention.'
    found = {
        'cell.weight_ih': torch.cat([w['core.lstm.w2h.weight'], w['core.lstm.v2h.weight']], 1),
        'cell.weight_hh': w['core.lstm.h2h.0.weight'],
        'cell.bias_ih': w['core.lstm.w2h.bias'] + w['core.lstm.v2h.bias'],
        'cell.bias_hh': w['core.lstm.h2h.0.bias'],
    }
    found = {name: value[order] for name, value in found.items()}
    gates = [w['core.lstm.r_w2h.weight'], w['core.lstm.r_v2h.weight']]
    found['gate_input.weight'] = torch.cat(gates, 1)
    found['gate_input.bias'] = w['core.lstm.r_w2h.bias'] + w['core.lstm.r_v2h.bias']
    names = {
        'gate_hidden': 'core.lstm.r_h2h',
        'attention.value': 'ctx2att',
        'attention.query': f'{inside}ho_embed',
        'sentinel_key': f'{inside}fr_embed',
        'sentinel_layer': f'{inside}fr_linear.0',
        'hidden_layer': f'{inside}ho_linear.0',
        'output_layer': f'{inside}att2h',
        'embed_mean.linear': 'fc_embed.0',
        **PLACES,
    }
    names = {**whole(names), **EMBED, 'attention.score.weight': f'{inside}alpha_net.weight'}
    return found | {ours: w[theirs] for ours, theirs in names.items()}


def weights_of(name, w):
    "A model's recorded weights under our names."
    if name == 'adaatt':
        return of_adaatt(w)
    if name == 'showtell':
        names = PLAIN | whole({'embed_mean.linear': 'img_embed'})
        names |= {f'cell.weight_{part}': f'core.weight_{part}_l0' for part in ('ih', 'hh')}
    elif name == 'fc':
        names = PLAIN | whole({'embed_mean.linear': 'img_embed', **MAXOUT})
    elif name == 'att2in':
        names = PLAIN | ATTENTION | whole({'cell.context': 'core.a2c', **MAXOUT})
    elif name == 'att2in2':
        names = EMBED | ATTENTION | whole({'cell.context': 'core.a2c', **MAXOUT, **PLACES})
    else:
        parts = [f'{kind}_{side}' for kind in ('weight', 'bias') for side in ('ih', 'hh')]
        cells = {f'{a}.{part}': f'{b}.{part}' for a, b in CELLS.items() for part in parts}
        names = EMBED | ATTENTION | cells | whole({'embed_mean.linear': 'fc_embed.0', **PLACES})
    return {ours: w[theirs] for ours, theirs in names.items()}


def in_our_words(table, start, fill=0.0):
    "Rows of their words as rows of ours, their row 0 at `start`."
    ours = torch.full((len(table) + SHIFT, *table.shape[1:]), fill)
    ours[start], ours[SHIFT + 1 :] = table[0], table[1:]
    return ours


def as_theirs(logs):
    "Log-probabilities of our words as theirs: their 0 is the end."
    return torch.cat([logs[..., [EOS_ID]], logs[..., SHIFT + 1 :]], -1)


def theirs(name, recorded):
    "Our system with their weights, and their tensors of this model."
    tensors, c = recorded
    own = {
        key[len(name) + 1 :]: value for key, value in tensors.items() if key.startswith(f'{name}.')
    }
    w = weights_of(name, {key[2:]: value for key, value in own.items() if key.startswith('w.')})
    w['words.weight'] = in_our_words(w['words.weight'], BOS_ID)
    w['head.weight'] = in_our_words(w['head.weight'], EOS_ID)
    w['head.bias'] = in_our_words(w['head.bias'], EOS_ID, fill=-1e9)
    config = SystemConfig(
        text_vocab=c['words'] + 1 + SHIFT,
        max_words=c['max_length'],
        visual='tokens',
        image_vocab=2,
        d=c['d'],
        d_att=c['models'][name]['d_att'],
        **FORMS[name],
    )
    model = make_model(config)
    if hasattr(model, 'embed_places'):
        model = with_features_of_width(model, config, c['feat'])
    if hasattr(model, 'embed_mean'):
        model.embed_mean = ImageEmbedding(c['feat'], config)
    w |= {key: value for key, value in model.state_dict().items() if key.startswith('grid.')}
    model.load_state_dict(w)
    return model.eval(), own


def with_features_of_width(model, config, width):
    "The same system over places of another width."
    model.embed_places = ImageEmbedding(width, config)
    if config.image_embedding == 'none':
        model.attention.value = torch.nn.Linear(width, config.d_att)
        model.cell.context = torch.nn.Linear(width, 2 * config.d)
    return model


def images_of(model, tensors):
    grid = Grid(tensors['in.att_feats'], tensors['in.att_masks'].bool(), tensors['in.fc_feats'])
    return model.encode(grid)


def our_ids(ids):
    "Their reports [B, T] as what we read: <bos> and words."
    words = torch.where(ids > 0, ids + SHIFT, PAD_ID)
    words[:, 0] = BOS_ID
    return words


@pytest.mark.parametrize('reports', ['ids', 'ids_short'])
@pytest.mark.parametrize('name', FORMS)
def test_teacher_forcing_equals_theirs(name, reports, recorded):
    "Every log-probability up to the end of each report, to 1e-5."
    model, own = theirs(name, recorded)
    tensors, _ = recorded
    ids = tensors[f'in.{reports}'][:, :-1]
    with torch.no_grad():
        logits = model.unroll(our_ids(ids), images_of(model, tensors)).logits
    wanted = own['out.logprobs' if reports == 'ids' else 'out.logprobs_short']
    read = torch.ones_like(ids, dtype=torch.bool)
    read[:, 1:] = ids[:, 1:] > 0  # what is read: the start, then words
    read = read[:, : wanted.shape[1]]
    ours = as_theirs(word_log_probs(logits))[:, : wanted.shape[1]]
    assert read.sum() == (33 if reports == 'ids' else 14)
    torch.testing.assert_close(ours[read], wanted[read], atol=1e-5, rtol=0)


@pytest.mark.parametrize('name', ['att2in', 'att2in2', 'adaatt', 'updown'])
def test_what_is_seen_equals_theirs(name, recorded):
    "Weights of the first two steps; with the sentinel's, which they keep first."
    model, own = theirs(name, recorded)
    tensors, _ = recorded
    ids = our_ids(tensors['in.ids'][:, :2])
    with torch.no_grad():
        weights = model.unroll(ids, images_of(model, tensors), weights=True).attention[0, :, 0]
    for t, step in enumerate(('core', 'core2')):
        wanted = own[f'act.{step}.weights']
        if name == 'adaatt':
            torch.testing.assert_close(1 - weights[:, t].sum(-1), wanted[:, 0], atol=1e-5, rtol=0)
            wanted = wanted[:, 1:]
        torch.testing.assert_close(weights[:, t], wanted, atol=1e-5, rtol=0)


def before_the_second_word(model, tensors):
    "A state that has read the start word, and the word that comes next."
    ids = our_ids(tensors['in.ids'])
    state = model.start(images_of(model, tensors))
    with torch.no_grad():
        model.advance(ids[:, 0], state)
    return state, ids[:, 1]


@pytest.mark.parametrize('name', FORMS)
def test_states_equal_theirs(name, recorded):
    "Hidden states after the start word; Show and Tell's second call is that, its first the image."
    model, own = theirs(name, recorded)
    state, _ = before_the_second_word(model, recorded[0])
    wanted = own['act.core2.h' if name in ('showtell', 'fc') else 'act_in.core2.h']
    for layer, key in enumerate(['h1', 'h2'] if name == 'updown' else ['h']):
        torch.testing.assert_close(state[key], wanted[layer], atol=1e-5, rtol=0)


@pytest.mark.parametrize('name', ['att2in', 'att2in2', 'adaatt', 'updown'])
def test_what_the_output_layer_reads_equals_theirs(name, recorded):
    model, own = theirs(name, recorded)
    state, word = before_the_second_word(model, recorded[0])
    with torch.no_grad():
        out = model.advance(word, state)
    torch.testing.assert_close(out, own['act.core2.out'], atol=1e-5, rtol=0)


def test_the_sentinel_is_there_where_the_first_place_is_not(recorded):
    "Theirs takes the first place's mask for the sentinel; without a sentinel ours equals it."
    model, own = theirs('adaatt', recorded)
    state, word = before_the_second_word(model, recorded[0])
    hole = own['act_in.hole.mask'].bool()
    assert not hole[0, 0] and own['act.hole.weights'][0, 0] == 0
    state.images = state.images._replace(mask=hole)
    state.seen = []
    with torch.no_grad():
        out = model.advance(word, state)
    places = state.seen[0][0, :, 0]
    beta = 1 - places.sum(-1)
    assert float(beta[0]) > 1e-3  # ours has it
    others = slice(1, None)
    torch.testing.assert_close(out[others], own['act.hole.out'][others], atol=1e-5, rtol=0)
    torch.testing.assert_close(beta[others], own['act.hole.weights'][others, 0], atol=1e-5, rtol=0)
    alone = places[0] / places[0].sum()
    torch.testing.assert_close(alone, own['act.hole.weights'][0, 1:], atol=1e-5, rtol=0)


@pytest.mark.parametrize('beams', [1, 3])
@pytest.mark.parametrize('name', FORMS)
def test_searches_write_what_theirs_wrote(name, beams, recorded):
    model, own = theirs(name, recorded)
    tensors, _ = recorded
    found = generate(model, None, beams=beams, memory=images_of(model, tensors))
    wanted = [[w + SHIFT for w in row if w] for row in own[f'out.beam{beams}.ids'].tolist()]
    assert found.ids == wanted
    if beams == 3:
        best = own['out.beam3.all_scores'][:, 0]
        torch.testing.assert_close(torch.tensor(found.scores), best, atol=1e-4, rtol=0)
