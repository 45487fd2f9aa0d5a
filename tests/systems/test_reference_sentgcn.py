"""Our parts of SENTSAT+KG against tensors recorded from its authors' code; UAR_REFERENCE names
the folder with sentgcn.safetensors."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from uar_nb.config import SystemConfig
from uar_nb.core import BOS_ID, EOS_ID, PAD_ID
from uar_nb.data.batch import Batch
from uar_nb.systems.chestgraph import GraphEncoder, GraphLayer, SentSATKG, normalise
from uar_nb.systems.tags import Graph, chest_graph, tag_loss
from uar_nb.systems.writers import Grid

FOLDER = os.environ.get('UAR_REFERENCE')
pytestmark = pytest.mark.skipif(
    not FOLDER, reason='UAR_REFERENCE is not set: it names the folder with sentgcn.safetensors'
)
PERIOD = 4


def recorded():
    with safe_open(str(Path(FOLDER) / 'sentgcn.safetensors'), 'pt') as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (no dict)
        return tensors, json.loads(file.metadata()['config'])


def same(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


PATHS = dict(own='condense', along='fw_trans', against='bw_trans', update='update')
NORMS = dict(own_norm='condense_norm', along_norm='fw_norm', against_norm='bw_norm')
NORMS['update_norm'] = 'update_norm'


def layer_weights(tensors, number):
    "The state dict of our graph layer from theirs."
    prefix = f'w.gcn.layer{number}'
    found = {
        f'{ours}.weight': tensors[f'{prefix}.{theirs}.weight'][..., 0]
        for ours, theirs in PATHS.items()
    }
    for ours, theirs in NORMS.items():
        for field in ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked'):
            found[f'{ours}.{field}'] = tensors[f'{prefix}.{theirs}.{field}']
    return found


@pytest.fixture(scope='module')
def tensors():
    return recorded()[0]


@pytest.fixture(scope='module')
def model(tensors):
    "Our model with the recorded weights; the maps stand for its trunk."
    c = recorded()[1]
    config = SystemConfig(
        writer='sentsat_kg',
        text_vocab=c['vocab_size'],
        period_id=c['stop_id'],
        visual='tokens',
        image_vocab=2,
        grid=1,
        image_embedding='none',
        d=c['hidden_size'],
        d_att=c['att_size'],
        word_width=c['embed_size'],
        max_words=40,
        dropout=0.0,
        image_dropout=0.0,
    )
    model = SentSATKG(config)
    width = c['feat_size']
    # the same model for places of 24 channels
    model.look.queries = torch.nn.Linear(width, 20, bias=False)
    graph = chest_graph()
    model.graph = GraphEncoder(width, graph)
    model.classifier.linear = torch.nn.Linear(width, 20)
    model.attention.value = torch.nn.Linear(width, c['att_size'], bias=False)
    model.first_h, model.first_c = (torch.nn.Linear(2 * width, c['hidden_size']) for _ in 'hc')
    model.sentence = torch.nn.LSTMCell(2 * width, c['hidden_size'])
    word = c['embed_size'] + c['hidden_size'] + 2 * width
    model.word = torch.nn.LSTMCell(word, c['hidden_size'])

    names = {
        'words': 'embed',
        'head': 'fc',
        'first_h': 'init_sent_h',
        'first_c': 'init_sent_c',
        'sentence': 'sent_lstm',
        'word': 'word_lstm',
        'classifier.linear': 'classifier.fc2',
        'attention.value': 'atten.affine_v',
        'attention.query': 'atten.affine_k',
        'attention.score': 'atten.affine',
    }
    for ours, theirs in names.items():
        prefix = f'w.{theirs}.'
        part = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        model.get_submodule(ours).load_state_dict(part)
    model.look.queries.weight.data = tensors['w.cls_atten.channel_w.weight'][..., 0, 0]
    for number, layer in enumerate(model.graph.layers, 1):
        layer.load_state_dict(layer_weights(tensors, number))
    model._views = lambda grid: (grid.places.unflatten(1, (2, 10)), torch.ones(4, 2).bool())
    return model.eval()


@pytest.fixture(scope='module')
def images(tensors, model):
    views = [tensors[f'in.maps{view}'].flatten(2).mT for view in (1, 2)]  # [4, 10, 24]
    places = torch.cat(views, 1)
    with torch.no_grad():
        return model.encode(Grid(places, torch.ones(4, 20).bool(), places.mean(1)))


def test_graph_and_its_normalised_form(tensors):
    A = chest_graph().A
    same(A, tensors['in.fw_adj'])
    same(A.T, tensors['in.bw_adj'])
    along, against = normalise(A)
    same(along, tensors['act.fw_A'])
    same(against, tensors['act.bw_A'])


def test_node_attention(tensors, model):
    found, weights = model.look(tensors['act_in.cls_atten.0'].flatten(2).mT)
    same(found, tensors['act.cls_atten'])
    same(weights, tensors['act.cls_atten.weights'])


def test_graph_layer_in_both_modes(tensors):
    layer = GraphLayer(24, 6).eval()
    layer.load_state_dict(layer_weights(tensors, 1))
    x = tensors['act_in.gclayer.0'].mT
    matrices = tensors['act_in.gclayer.1'][0], tensors['act_in.gclayer.2'][0]
    same(layer(x, *matrices), tensors['act.gclayer'].mT)
    layer.train()
    same(layer(x, *matrices), tensors['act.gclayer_train'].mT)
    for ours, theirs in NORMS.items():
        for field in ('running_mean', 'running_var'):
            kept = getattr(layer.get_submodule(ours), field)
            same(kept, tensors[f'act.gclayer_train.{theirs}.{field}'])


def test_whole_graph_of_both_views(tensors, model, images):
    for view, name in enumerate(('gcn', 'gcn2')):
        same(model.graph(tensors[f'act_in.{name}.0']), tensors[f'act.{name}'])
        same(images.features[:, view], tensors[f'act.{name}'])
        same(images.mean.unflatten(1, (2, -1))[:, view], tensors[f'act_in.{name}.0'][:, 0])


@pytest.mark.parametrize('name', ['atten', 'atten_sent2'])
@pytest.mark.parametrize('view', ['view1', 'view2'])
def test_attention_to_nodes(tensors, model, name, view):
    nodes = tensors[f'act_in.{name}.{view}.1']
    keys, mask = model.attention.keys(nodes), torch.ones(4, 21).bool()
    seen, weights = model.attention(tensors[f'act_in.{name}.{view}.0'], nodes, keys, mask)
    same(seen, tensors[f'act.{name}.{view}.context'])
    same(weights, tensors[f'act.{name}.{view}.weights'])


@torch.no_grad()
def test_lstms_and_their_inputs_along_the_reports(tensors, model, images):
    "Two sentence steps and the first words, from the state at the start."
    state = model.start(images)
    same(state['sentence_h'], tensors['act_in.sent_lstm.h'])
    same(state['sentence_c'], tensors['act_in.sent_lstm.c'])
    for name in ('sent_lstm', 'sent_lstm_2'):
        before = state['sentence_h']
        same(before, tensors[f'act_in.{name}.h'])
        state.rows.update(model.sentence_step(state))
        same(state['context'], tensors[f'act_in.{name}.x'])
        same(state['sentence_h'], tensors[f'act.{name}.h'])
        same(state['sentence_c'], tensors[f'act.{name}.c'])
    state = model.start(images)
    state.rows.update(model.sentence_step(state))
    for column, name in enumerate(('word_lstm', 'word_lstm_2')):
        ids = tensors['in.captions'][:, 0, column]
        x = [model.words(ids), state['sentence_h'], state['context']]
        same(torch.cat(x, 1), tensors[f'act_in.{name}.x'])
        same(state['h'], tensors[f'act_in.{name}.h'])
        same(model.word_step(ids, state), tensors[f'act.{name}.h'])
        same(state['c'], tensors[f'act.{name}.c'])


@torch.no_grad()
def test_the_word_state_goes_on_over_the_full_stop(tensors, model, images):
    "The first word of the second sentence, of the studies that have one."
    for row, b in enumerate((0, 2, 3)):
        state = model.start(images.select(torch.tensor([b])))
        first = tensors['in.captions'][b, 0].tolist()
        for word in first[: first.index(PERIOD)]:
            model.step(torch.tensor([word]), state)
        same(state['h'][0], tensors['act_in.word_lstm_sent2.h'][row])
        same(state['c'][0], tensors['act_in.word_lstm_sent2.c'][row])
        model.step(torch.tensor([PERIOD]), state)
        x = [model.words(torch.tensor([PERIOD])), state['sentence_h'], state['context']]
        same(torch.cat(x, 1)[0], tensors['act_in.word_lstm_sent2.x'][row])
        same(state['h'][0], tensors['act.word_lstm_sent2.h'][row])
        same(state['c'][0], tensors['act.word_lstm_sent2.c'][row])


def flat(captions, update, loss):
    "(report ids, place of each predicted word in their table) of the recorded sentences."
    words, places = [BOS_ID], []
    for s, sentence in enumerate(captions.tolist()):
        for t in range(len(sentence) - 1):
            if loss[s, t + 1]:
                words.append(sentence[t + 1])
                places.append((s, t))
    return words, places


@torch.no_grad()
def test_logits_and_loss_of_the_recorded_reports(tensors, model, images):
    """Read flat: '.' ends a sentence and begins the next; `<eos>` under the state before the
    step. Words that ours bars in a sentence have logits all the same."""
    rows = [
        flat(*(tensors[f'in.{name}'][b] for name in ('captions', 'update_mask', 'loss_mask')))
        for b in range(4)
    ]
    longest = max(len(words) for words, _ in rows)
    ids = torch.tensor([words + [PAD_ID] * (longest - len(words)) for words, _ in rows])
    assert all(words[-1] == EOS_ID for words, _ in rows)
    model.train()
    for module in model.trunk:
        model.get_submodule(module).eval()
    model.config = model.config.override({'end_word': 'before_step'})
    seen = []
    head = model.head.register_forward_hook(lambda module, x, out: seen.append(out))
    batch = Batch(list('0123'), None, None, None, None, ids)
    read = model.unroll(batch.text_in, images)
    head.remove()
    for b, (_, places) in enumerate(rows):
        for t, (s, column) in enumerate(places):
            same(seen[0][b, t], tensors['out.logits'][b, s, column])
    # their loss is over all words, ours bars those that cannot come
    targets = batch.targets
    theirs = torch.nn.functional.cross_entropy(
        seen[0].flatten(0, 1), targets.flatten(), ignore_index=PAD_ID
    )
    same(theirs, tensors['out.loss'][0])
    assert float(model.losses(batch, images, read)['ce']) < float(theirs)
    # with the step first, `<eos>` is learned elsewhere and nothing else changes
    model.config = model.config.override({'end_word': 'after_step'})
    after = model.unroll(batch.text_in, images)
    ends = targets == EOS_ID
    same(after.logits[~ends & batch.text_mask], read.logits[~ends & batch.text_mask])
    assert (after.logits[ends] - read.logits[ends])[:, EOS_ID].abs().min() > 1e-3
    model.eval()


@torch.no_grad()
def test_greedy_reports_by_their_double_loop(tensors, model, images):
    "Their loop over our two steps: a sentence that is cut hands on its last word."
    found = torch.zeros_like(tensors['out.greedy.ids'])
    for b in range(4):
        state = model.start(images.select(torch.tensor([b])))
        last = torch.tensor([BOS_ID])
        for s in range(found.shape[1]):
            state.rows.update(model.sentence_step(state))
            for t in range(found.shape[2]):
                last = model.word_logits(model.word_step(last, state)).argmax(-1)
                found[b, s, t] = last
                if last == PERIOD:
                    break
    assert torch.equal(found, tensors['out.greedy.ids'])


@torch.no_grad()
def test_classifier(tensors, model, images):
    same(images.more['tags'], tensors['out.classifier.logits'])
    loss = tag_loss(images.more['tags'], tensors['in.labels'], positive=tensors['in.pos_weight'])
    same(loss, tensors['out.classifier.loss'][0])


def test_a_graph_of_other_nodes_differs(tensors, model):
    "The comparison would see a graph with one edge less."
    graph = chest_graph()
    A = graph.A.clone()
    A[5, 7] = 0
    other = GraphEncoder(24, Graph(graph.names, A)).eval()
    other.load_state_dict(model.graph.state_dict())
    apart = other(tensors['act_in.gcn.0']) - tensors['act.gcn']
    assert apart.abs().max() > 1e-3
