"""The graph of findings in closed form, SENTSAT+KG's `<eos>` as a word, its two stages."""

import itertools
import math

import pytest
import torch
from system_cases import small_batch, small_config, small_model, train_and_watch

from uar_nb.config import Stage, run_preset, system_preset
from uar_nb.core import BOS_ID, EOS_ID, UARError, torch_rng
from uar_nb.experiment.prepare import prepare
from uar_nb.experiment.run_folder import read_log
from uar_nb.generation import generate, word_log_probs
from uar_nb.phantom.generator import make_studies
from uar_nb.systems.catalogue import make_model
from uar_nb.systems.chestgraph import GraphEncoder, GraphLayer, NodeAttention, normalise
from uar_nb.systems.tags import Graph, chest_graph, node_labels, positive_weights
from uar_nb.training import enter_stage, set_train_mode

PERIOD = 4


def random_graph(seed, nodes=7):
    generator = torch.Generator().manual_seed(seed)
    A = (torch.rand(nodes, nodes, generator=generator) < 0.4).double()
    A[3] = A[:, 3] = 0  # a node without any edge
    return A


@pytest.mark.parametrize('seed', range(3))
def test_normalised_edges_add_up_to_one_squared(seed):
    "Σ over receivers of edge² · in-degree is 1 for who speaks, and nothing comes from nobody."
    A = random_graph(seed)
    along, against = normalise(A)
    assert torch.equal(against, along.T)
    total = (along.square() * A.sum(0)).sum(1)
    torch.testing.assert_close(total, (A.sum(1) > 0).double())
    assert along.isfinite().all() and not along[3].any() and not along[:, 3].any()


def test_closed_form_on_the_twenty_findings():
    graph = chest_graph()
    along, _ = normalise(graph.A.double())
    peers = dict(effusion=2, calcinosis=1, opacity=6, inflation=1, cardiomegaly=0)
    for name, number in peers.items():
        node = graph.names.index(name)
        assert abs(along[0, node] - 1 / math.sqrt(20 * (1 + number))) < 1e-12
        inside = along[1:, node]
        assert int((inside > 0).sum()) == number
        if number:
            assert abs(inside.max() - 1 / math.sqrt(number * (number + 1))) < 1e-12


def layer(seed=0):
    "A layer in float64 whose batch statistics are away from 0 and 1."
    with torch_rng('graph layer', seed):
        made = GraphLayer(8, 3).double().eval()
        for norm in (made.own_norm, made.along_norm, made.against_norm, made.update_norm):
            torch.nn.init.uniform_(norm.running_var, 0.5, 2)
            torch.nn.init.normal_(norm.running_mean)
            torch.nn.init.normal_(norm.bias)
    return made


def test_relabelling_nodes_relabels_what_comes_out():
    A, made = random_graph(1), layer()
    with torch_rng('relabel'):
        x, order = torch.randn(2, 7, 8).double(), torch.randperm(7)
    out = made(x, *normalise(A))
    again = made(x[:, order], *normalise(A[order][:, order]))
    torch.testing.assert_close(again, out[:, order])


def test_without_edges_a_node_hears_itself_alone():
    made = layer()
    with torch_rng('alone'):
        x = torch.randn(2, 7, 8).double()
    none = torch.zeros(7, 7).double()
    out = made(x, *normalise(none))
    each = [made(x[:, [i]], *normalise(none[:1, :1])) for i in range(7)]
    torch.testing.assert_close(out, torch.cat(each, 1))
    assert (made(x, *normalise(random_graph(1))) - out).abs().max() > 1e-3


def test_no_layers_leave_nodes_as_they_are():
    x = torch.randn(1, 21, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(GraphEncoder(4, chest_graph(), layers=0)(x), x)
    A = chest_graph().A
    first = GraphEncoder(4, Graph(chest_graph().names, A), layers=2)
    assert not any('along' == key for key in first.state_dict())  # the graph is no weight


def test_dropout_stands_on_the_update_in_training():
    with torch_rng('dropout'):
        made = GraphLayer(8, 3, dropout=0.5)
        x = torch.randn(50, 7, 8)
        matrices = normalise(random_graph(1).float())
        made.train()
        out = made(x, *matrices)
        kept = torch.isclose(out, x.relu(), atol=1e-6)[x > 0].float().mean()
    assert 0.4 < float(kept) < 0.6  # where the update is dropped the node stays


def test_node_attention_between_the_mean_and_one_place():
    with torch_rng('look'):
        look, places = NodeAttention(5, 3).double(), torch.randn(2, 6, 5).double()
    with torch.no_grad():
        look.queries.weight[0] = 0
        look.queries.weight[1] *= 1e6
    found, weights = look(places)
    torch.testing.assert_close(found[:, 0], places.mean(1))
    best = (places @ look.queries.weight[1]).argmax(1)
    torch.testing.assert_close(found[:, 1], places[torch.arange(2), best])
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3).double())


# ---- writing


def tiny(**changes):
    "A model of seven words in float64, all its weights away from zero."
    sizes = dict(text_vocab=7, sentences=2, sentence_words=2, graph_layers=1)
    config = small_config('sentsat-kg', **(sizes | changes))
    with torch_rng('tiny sentsat'):
        model = make_model(config).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.5 * torch.randn_like(parameter)
    return model


@torch.no_grad()
@pytest.mark.parametrize(('sentences', 'words'), [(2, 2), (1, 3), (3, 1)])
def test_all_strings_share_one_probability(sentences, words):
    "Also with a sentence of one place, in which a '.' has to come or the end."
    model = tiny(sentences=sentences, sentence_words=words)
    images = model.encode_image(small_batch(((5, PERIOD),) * 2))
    for study in range(2):
        one = images.select(torch.tensor([study]))
        total = 0.0
        for length in range(sentences * words + 1):
            for text in itertools.product((3, PERIOD, 5, 6), repeat=length):
                ids = torch.tensor([[BOS_ID, *text, EOS_ID]])
                logs = word_log_probs(model.unroll(ids[:, :-1], one).logits)
                total += math.exp(logs.gather(2, ids[:, 1:, None]).sum())
        assert abs(total - 1) < 1e-9


def test_limits_end_sentences_and_reports():
    model = tiny(sentences=3, sentence_words=4)
    batch = small_batch(((5, PERIOD),) * 4)
    for options in (dict(beams=1), dict(beams=3), dict(sample=True, seed=1)):
        for text in generate(model, batch, **options).ids:
            assert text[-1] == PERIOD and text.count(PERIOD) <= 3
            lengths = [len(list(g)) for k, g in itertools.groupby(text, PERIOD.__eq__) if not k]
            assert all(n <= 3 for n in lengths)


@torch.no_grad()
def test_the_first_sentence_counts_in_the_second():
    "The word state goes on over the full stop; the plan does not read words."
    model, batch = small_model('sentsat-kg'), small_batch(((5, 6, PERIOD, 7, PERIOD),) * 2)
    other = small_batch(((8, 9, PERIOD, 7, PERIOD),) * 2)
    plans, h = [], []
    for texts in (batch, other):
        state = model.start(model.encode_image(texts))
        for words in texts.text_in[:, :4].unbind(1):
            model.step(words, state)
        plans.append(state['sentence_h'])
        h.append(state['h'])
    torch.testing.assert_close(*plans)
    assert (h[0] - h[1]).abs().max() > 1e-3


@torch.no_grad()
def test_a_missing_view_leaves_zeros_in_its_half():
    model, batch = small_model('sentsat-kg'), small_batch()
    images = model.encode_image(batch)
    assert images.features[1, 0].any() and not images.features[1, 1].any()
    state = model.start(images)
    state.rows.update(model.sentence_step(state))
    first, second = state['context'].unflatten(1, (2, -1)).unbind(1)
    assert first[1].any() and not second[1].any() and second[0].any()


def test_the_end_is_learned_before_the_step_where_that_is_wanted():
    "In training alone, and nothing but the logits of `<eos>`'s places change."
    batch = small_batch()
    ours = small_model('sentsat-kg', dropout=0.0, image_dropout=0.0)
    theirs = make_model(ours.config.override({'end_word': 'before_step'})).double().eval()
    theirs.load_state_dict(ours.state_dict())
    images = ours.encode_image(batch)
    assert torch.equal(ours.unroll(batch.text_in, images).logits, theirs(batch).logits)
    theirs.train()
    read = theirs.unroll(batch.text_in, images).logits
    ends = batch.targets == EOS_ID
    words = batch.text_mask & ~ends
    torch.testing.assert_close(read[words], ours.unroll(batch.text_in, images).logits[words])
    assert not torch.allclose(read[ends], ours.unroll(batch.text_in, images).logits[ends])
    assert theirs.begins(batch.text_in)[1].tolist()[:3] == [True, False, False]  # a word, a '.'
    assert theirs.begins(batch.text_in)[0].sum() == 2 and ours.begins(batch.text_in)[0].sum() == 3
    assert theirs.begins(batch.text_in[:, 2]).tolist() == ours.begins(batch.text_in[:, 2]).tolist()


# ---- two stages


@pytest.fixture(scope='module')
def studies():
    return make_studies(8, seed=3, style='single') + make_studies(
        2, seed=4, style='single', split='val'
    )


def settings(**more):
    small = {'model.d': 8, 'model.d_att': 8, 'model.word_width': 8, 'model.grid': 7}
    small |= {'model.positions': 'none', 'model.local_mixing': 0, 'data.crops': 0}
    small |= {'train.batch_size': 4, 'train.beam': 1, 'train.threads': 1, 'train.log_every': 1}
    for stage in range(2):
        small[f'train.stages.{stage}.steps'] = 2
    return run_preset('phantom', 'sentsat-kg').override(small | more)


def test_labels_and_their_weights_come_from_the_training_studies(studies):
    made = prepare(settings(), studies)
    train = node_labels([s for s in studies if s.split == 'train'])
    weights = torch.from_numpy(positive_weights(train))
    for split, number in (('train', 8), ('val', 2)):
        extras = made.data[split].batch(range(number)).extras
        assert torch.equal(extras['tag_weights'], weights.expand(number, -1))
        wanted = node_labels([s for s in studies if s.split == split])
        assert extras['tags'].tolist() == wanted.tolist()


def test_the_stages_teach_what_they_say(studies, tmp_path):
    "First the image side by the tags, then the rest by the words; what is frozen keeps its bits."
    made = prepare(settings(), studies)
    weights = train_and_watch(made, tmp_path / 'r')
    first, second = (
        {key.split('.')[0] for key in before if not torch.equal(before[key], after[key])}
        for before, after in itertools.pairwise(weights)
    )
    assert first == set(made.model.trunk) and not first & second
    assert {'sentence', 'word', 'head', 'attention', 'first_h'} <= second
    rows = read_log(tmp_path / 'r')
    told = {(row['kind'], row['stage']): row for row in rows if row['kind'] in ('train', 'val')}
    assert told['val', 'tags']['monitor'] == 'loss' and 'ce' not in told['train', 'tags']
    assert told['val', 'words']['monitor'] != 'loss' and 'ce' in told['train', 'words']
    assert told['train', 'tags']['loss'] == told['train', 'tags']['tags']
    assert told['train', 'words']['loss'] == told['train', 'words']['ce']


def test_a_frozen_image_side_stays_in_evaluation_mode():
    model = small_model('sentsat-kg')
    stage = Stage(name='words', steps=1, tags=0.0, trunk_lr=0.0)
    enter_stage(model, stage)
    set_train_mode(model, stage)
    modes = {name: module.training for name, module in model.named_children()}
    assert not any(modes[name] for name in model.trunk) and modes['word'] and modes['sentence']
    before = model.graph.layers[0].own_norm.running_mean.clone()
    model(small_batch())
    assert torch.equal(model.graph.layers[0].own_norm.running_mean, before)
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert {name.split('.')[0] for name in frozen} == set(model.trunk)


def test_tags_reach_the_classifier():
    model, batch = small_model('sentsat-kg'), small_batch()
    batch.extras = dict(tags=torch.eye(20)[:4], tag_weights=torch.full((4, 20), 2.0).double())
    out = model(batch)
    assert set(out.losses) == {'ce', 'tags'}
    out.total.backward()
    assert model.classifier.linear.weight.grad.abs().sum() > 0
    with pytest.raises(UARError, match='no loss'):
        model(small_batch(), {'ce': 0.0, 'tags': 1.0})


def test_presets():
    matched = run_preset('iu_xray', 'sentsat-kg').train
    whole = sum(stage.epochs for stage in run_preset('iu_xray', 'st').train.stages)
    assert sum(stage.epochs for stage in matched.stages) == whole
    assert [stage.loss_weights['ce'] for stage in matched.stages] == [0.0, 1.0]
    assert [stage.loss_weights['tags'] for stage in matched.stages] == [1.0, 0.0]
    published = system_preset('sentsat-kg-published', text_vocab=9, period_id=4)
    model = make_model(published.override({'visual': 'small_cnn', 'grid': 7}))
    c = model.grid.channels
    assert model.word.input_size == 256 + 512 + 2 * c and model.graph.layers[0].own.in_features == c
    assert len(model.graph.layers) == 3
