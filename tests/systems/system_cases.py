"""The systems that tests run through, small: a new one joins by one line of CASES."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy_transformers import HEADS, TOPK, numpy_transformer

from uar_nb.config import system_preset
from uar_nb.core import BOS_ID, EOS_ID, PAD_ID, numpy_rng, torch_rng
from uar_nb.data.batch import Batch
from uar_nb.systems.catalogue import make_model
from uar_nb.systems.tags import chest_graph
from uar_nb.training import Trainer

PERIOD = 4
SMALL = dict(
    text_vocab=13,
    image_vocab=9,
    grid=3,
    views=2,
    max_words=16,
    period_id=PERIOD,
    visual='tokens',
    d=16,
    d_att=12,
    heads=HEADS,
    d_ff=24,
    layers=1,
    word_width=10,
    stop='joint',  # greedy as likely as it is read back; the threshold has tests of its own
    memory_size=7,
    memory_topk=TOPK,
)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def linear(w, name, x):
    "A linear layer of a state dict, with its bias where it has one."
    return x @ w[f'{name}.weight'].T + w.get(f'{name}.bias', 0)


def numpy_lstm(w, name, x, h, c):
    "One step of an LSTM cell, gates in torch's order."
    rows = x @ w[f'{name}.weight_ih'].T + h @ w[f'{name}.weight_hh'].T
    rows = rows + w.get(f'{name}.bias_ih', 0) + w.get(f'{name}.bias_hh', 0)
    i, f, g, o = np.split(rows, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def numpy_maxout(w, name, x, h, c, context=None):
    "One step of the max-out cell: input, forget, output gate, two halves."
    rows = linear(w, f'{name}.input', x) + linear(w, f'{name}.hidden', h)
    i, f, o, a, b = np.split(rows, 5)
    if context is not None:
        more = np.split(linear(w, f'{name}.context', context), 2)
        a, b = a + more[0], b + more[1]
    c = sigmoid(f) * c + sigmoid(i) * np.maximum(a, b)
    return sigmoid(o) * np.tanh(c), c


def numpy_show_tell(cell):
    "What gives the logits [T, V] of Show and Tell, step by step."

    def logits(w, places, words):
        zero = np.zeros(w['head.weight'].shape[1])
        image = linear(w, 'embed_mean.linear', places.mean(0))
        h, c = cell(w, 'cell', image, zero, zero)
        rows = []
        for word in words:
            h, c = cell(w, 'cell', w['words.weight'][word], h, c)
            rows.append(linear(w, 'head', h))
        return np.stack(rows)

    return logits


def flat_rows(words, begin, read, w, barred=(PAD_ID, BOS_ID, EOS_ID)):
    """The flat log-probabilities [T, V] of a two-level system: `begin` moves the sentence level
    and gives the logit to stop, `read` takes a word and gives h."""
    rows = []
    for word in words:
        stop = begin() if word in (BOS_ID, PERIOD) else None
        logits = linear(w, 'head', read(word))
        logits[list(barred)] = -np.inf
        row = logits - np.log(np.exp(logits).sum())
        if word == PERIOD:
            row = row + np.log(1 - sigmoid(stop))
            row[EOS_ID] = np.log(sigmoid(stop))
        rows.append(row)
    return np.stack(rows)


def numpy_hlstm(w, places, words):
    "The flat log-probabilities [T, V] of CNN-HLSTM."
    mean = linear(w, 'embed_mean.linear', places.mean(0))
    zero = np.zeros(w['head.weight'].shape[1])
    plan = {'h': zero, 'c': zero}

    def begin():
        before = plan['h']
        plan['h'], plan['c'] = numpy_lstm(w, 'sentence', mean, before, plan['c'])
        topic = linear(w, 'topic_state', plan['h']) + linear(w, 'topic_image', mean)
        plan['word'] = numpy_lstm(w, 'word.cell', np.tanh(topic), zero, zero)
        seen = linear(w, 'stop.before', before) + linear(w, 'stop.after', plan['h'])
        return linear(w, 'stop.out', np.tanh(seen))[0]

    def read(word):
        word = w['words.weight'][BOS_ID if word == PERIOD else word]
        plan['word'] = numpy_lstm(w, 'word.cell', word, *plan['word'])
        return plan['word'][0]

    return flat_rows(words, begin, read, w)


def softmax(e):
    e = np.exp(e - e.max())
    return e / e.sum()


def numpy_scores(w, places, query):
    "e of additive attention [N]."
    inside = linear(w, 'attention.value', places) + linear(w, 'attention.query', query)
    return np.tanh(inside) @ w['attention.score.weight'][0]


def relu(x):
    return np.maximum(x, 0)


def numpy_att2in(w, places, words):
    "Logits [T, V] of Att2in, in the form that its weights have."
    embedded = 'embed_places.linear.weight' in w
    if embedded:
        places = relu(linear(w, 'embed_places.linear', places))
    table = relu(w['words.weight']) if embedded else w['words.weight']
    h = c = np.zeros(table.shape[1])
    rows = []
    for word in words:
        seen = softmax(numpy_scores(w, places, h)) @ places
        h, c = numpy_maxout(w, 'cell', table[word], h, c, seen)
        rows.append(linear(w, 'head', h))
    return np.stack(rows)


def numpy_adaatt(w, places, words):
    "Logits [T, V] of AdaAtt; extra layers where the weights have them."
    extra = 'output_layer.weight' in w
    mean = relu(linear(w, 'embed_mean.linear', places.mean(0)))
    places = relu(linear(w, 'embed_places.linear', places))
    table = relu(w['words.weight']) if extra else w['words.weight']
    h = m = np.zeros(len(mean))
    rows = []
    for word in words:
        x = np.concatenate([table[word], mean])
        gate = sigmoid(linear(w, 'gate_input', x) + linear(w, 'gate_hidden', h))
        h, m = numpy_lstm(w, 'cell', x, h, m)
        sentinel, read = gate * np.tanh(m), h
        if extra:
            sentinel = relu(linear(w, 'sentinel_layer', sentinel))
            read = np.tanh(linear(w, 'hidden_layer', h))
        inside = linear(w, 'sentinel_key', sentinel) + linear(w, 'attention.query', read)
        e = np.append(
            numpy_scores(w, places, read), np.tanh(inside) @ w['attention.score.weight'][0]
        )
        out = softmax(e) @ np.vstack([places, sentinel]) + read
        if extra:
            out = np.tanh(linear(w, 'output_layer', out))
        rows.append(linear(w, 'head', out))
    return np.stack(rows)


def numpy_top_down(w, places, words):
    "Logits [T, V] of Top-Down."
    mean = relu(linear(w, 'embed_mean.linear', places.mean(0)))
    places = relu(linear(w, 'embed_places.linear', places))
    h1 = c1 = h2 = c2 = np.zeros(len(mean))
    rows = []
    for word in words:
        x = np.concatenate([h2, mean, relu(w['words.weight'][word])])
        h1, c1 = numpy_lstm(w, 'look_cell', x, h1, c1)
        seen = softmax(numpy_scores(w, places, h1)) @ places
        h2, c2 = numpy_lstm(w, 'word_cell', np.concatenate([seen, h1]), h2, c2)
        rows.append(linear(w, 'head', h2))
    return np.stack(rows)


def numpy_norm(w, name, x):
    "Batch normalisation in evaluation mode."
    scale = w[f'{name}.weight'] / np.sqrt(w[f'{name}.running_var'] + 1e-5)
    return (x - w[f'{name}.running_mean']) * scale + w[f'{name}.bias']


def numpy_nodes(w, places):
    "Nodes [K+1, c] of one view by its places [P, c], and their feature before the graph."
    weights = np.stack([softmax(row) for row in linear(w, 'look.queries', places).T])
    found = weights @ places
    x = start = np.concatenate([places.mean(0, keepdims=True), found])
    A = chest_graph().A.numpy().astype(float)
    out, into = A.sum(1, keepdims=True), A.sum(0, keepdims=True)
    along = A / np.sqrt(np.where(out, out, 1)) / np.sqrt(np.where(into, into, 1))
    layers = len({key.split('.')[2] for key in w if key.startswith('graph.layers.')})
    for number in range(layers):
        layer = f'graph.layers.{number}'
        paths = []
        for name, matrix in (('own', np.eye(len(A))), ('along', along.T), ('against', along)):
            path = matrix @ linear(w, f'{layer}.{name}', x)
            paths.append(np.maximum(numpy_norm(w, f'{layer}.{name}_norm', path), 0))
        update = linear(w, f'{layer}.update', np.concatenate(paths, 1))
        x = np.maximum(x + numpy_norm(w, f'{layer}.update_norm', update), 0)
    return x, start


def numpy_sentsat(w, places, words):
    "The flat log-probabilities [T, V] of SENTSAT+KG, for views of nine places."
    embedded = linear(w, 'embed_places.linear', places)
    views = [numpy_nodes(w, embedded[i : i + 9]) for i in range(0, len(places), 9)]
    nothing = np.zeros_like(views[0][0])
    views += [(nothing, nothing)] * (2 - len(views))
    whole = np.concatenate([start[0] for _, start in views])
    zero = np.zeros(w['head.weight'].shape[1])
    plan = dict(h=linear(w, 'first_h', whole), c=linear(w, 'first_c', whole), word=(zero, zero))

    def begin():
        seen = []
        for nodes, _ in views:
            seen.append(softmax(numpy_scores(w, nodes, plan['h'])) @ nodes)
        plan['context'] = np.concatenate(seen)
        plan['h'], plan['c'] = numpy_lstm(w, 'sentence', plan['context'], plan['h'], plan['c'])

    rows = []
    for word in words:
        if word in (BOS_ID, PERIOD):
            begin()
        x = np.concatenate([w['words.weight'][word], plan['h'], plan['context']])
        plan['word'] = numpy_lstm(w, 'word', x, *plan['word'])
        logits = linear(w, 'head', plan['word'][0])
        logits[[PAD_ID, BOS_ID] if word == PERIOD else [PAD_ID, BOS_ID, EOS_ID]] = -np.inf
        rows.append(logits - np.log(np.exp(logits).sum()))
    return np.stack(rows)


@dataclass
class Case:
    "What the tests know of a system."

    numpy: object  # (weights, places [N, c], words [T]) → logits [T, V], in float64
    same_views: bool = True  # swapping the views changes nothing
    attends: bool = False  # has attention to places
    numbered: bool = False  # the order of places counts
    lr: float = 2e-2  # of learning by heart
    without_gradient: set = field(default_factory=set)  # parameters that theory denies one


CASES = {
    'st': Case(numpy_show_tell(numpy_lstm)),
    'fc': Case(numpy_show_tell(numpy_maxout)),
    'st-published': Case(numpy_show_tell(numpy_lstm)),
    'hlstm': Case(numpy_hlstm),
    'att2in': Case(numpy_att2in, attends=True),
    'att2in2': Case(numpy_att2in, attends=True),
    'adaatt': Case(numpy_adaatt, attends=True),
    'adaatt-code': Case(numpy_adaatt, attends=True),
    'topdown': Case(numpy_top_down, attends=True),
    'base_r2gen': Case(numpy_transformer(), attends=True, lr=5e-3),
    'r2gen': Case(numpy_transformer('slots'), attends=True, lr=5e-3),
    'r2gencmn': Case(numpy_transformer('cmn'), attends=True, lr=5e-3),
    'r2gencmn-published': Case(
        numpy_transformer('cmn', sines=True), attends=True, numbered=True, lr=5e-3
    ),
    'cmm_rl': Case(numpy_transformer('cmn', batch_norm=True), attends=True, lr=5e-3),
    'sentsat-kg': Case(
        numpy_sentsat,
        same_views=False,  # each view has its half of a context
        without_gradient={'classifier.linear.weight', 'classifier.linear.bias'},  # no tags here
    ),
}


def small_config(name, **changes):
    "The preset of a system at the size of tests."
    return system_preset(name).override(SMALL | changes)


def small_model(name, **changes):
    "A system in float64 and evaluation mode, all its weights away from zero."
    with torch_rng('test', name):
        model = make_model(small_config(name, **changes)).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
    return model


def report(words):
    return [BOS_ID, *words, EOS_ID]


REPORTS = (
    (5, 6, PERIOD, 7, 8, 9, PERIOD),
    (10, PERIOD),
    (11, 12, 5, 6, PERIOD, 7, PERIOD, 8, PERIOD),
    (9, 9, PERIOD, 10, PERIOD),
)


def small_batch(reports=REPORTS, seed=0):
    "Studies with random visual tokens of two views; the second has its lateral view missing."
    rng = numpy_rng('systems', seed)
    rows = [report(words) for words in reports]
    longest = max(map(len, rows))
    mask = torch.ones(len(rows), 2, dtype=torch.bool)
    mask[1, 1] = False
    return Batch(
        [str(i) for i in range(len(rows))],
        torch.from_numpy(rng.integers(0, 9, (len(rows), 2, 9))),
        None,
        torch.tensor([[0, 1]] * len(rows)),
        mask,
        torch.tensor([row + [PAD_ID] * (longest - len(row)) for row in rows]),
        torch.arange(len(rows)),
    )


def train_and_watch(made, folder):
    "Train what `prepare` made; the weights before, and after each stage."
    weights = [{k: v.clone() for k, v in made.model.state_dict().items()}]

    class Watched(Trainer):
        def train_stage(self, index, bar):
            super().train_stage(index, bar)
            weights.append({k: v.clone() for k, v in self.model.state_dict().items()})

    parts = made.data['train'], made.data['val'], None
    Watched(made.config, made.model, *parts, folder, progress=False).fit()
    return weights
