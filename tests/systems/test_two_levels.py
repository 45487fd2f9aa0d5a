"""The contract holds systems that plan sentences and then write them: a toy whose every string
can be counted. The words of a report stay one flat string; p(<eos>) behind a '.' is the
probability to stop, and everything else is shared with the systems of one level."""

import itertools
import math

import numpy as np
import pytest
import torch
from system_cases import train_and_watch
from torch import nn

from uar_nb.config import DataConfig, RunConfig, Stage, SystemConfig, TrainConfig, run_preset
from uar_nb.core import BOS_ID, EOS_ID, UNK_ID, UARError, torch_rng
from uar_nb.data.batch import Batch
from uar_nb.experiment.prepare import prepare
from uar_nb.experiment.run_folder import read_log
from uar_nb.generation import generate, score_written, word_log_probs
from uar_nb.phantom.generator import make_studies
from uar_nb.systems import catalogue
from uar_nb.systems.writers import Images, Writer

PERIOD, A, B = 4, 5, 6
FORCED = [B, A, PERIOD]


class Toy(Writer):
    """A sentence state moves on behind each '.', decides whether to stop and, where it has
    templates, whether the next words are written or copied."""

    templates = False
    barred = (0, BOS_ID, EOS_ID, UNK_ID)  # no words of a sentence

    def __init__(self, config):
        super().__init__(config)
        d = config.d
        self.image = nn.Linear(self.grid.mean_width, d)
        self.sentence = nn.GRUCell(d, d)
        self.word = nn.GRUCell(d, d)
        self.stop = nn.Linear(d, 1)
        self.action = nn.Linear(d, 2)
        self.tags = nn.Linear(d, 1)

    def encode(self, grid):
        return Images(grid.places, grid.mask, self.image(grid.mean))

    def open(self, images, beams, max_len):
        R = len(images.mean) * beams
        zeros = torch.zeros(R, dtype=torch.long, device=images.mean.device)
        h = images.mean.new_zeros(R, self.config.d)
        queue = torch.tensor([FORCED], device=zeros.device).repeat(R, 1)
        counts = dict(mode=zeros, place=zeros, ended=zeros, queue=queue)
        return dict(sentence=h, word=h, **counts)

    def advance(self, ids, state):
        "Log-probabilities of the next word [R, |V_R|]."
        behind = ids == PERIOD
        starts = behind | (ids == BOS_ID)
        beams = len(ids) // len(state.images.mean)
        context = state.images.mean.repeat_interleave(beams, 0)
        moved = self.sentence(context, state['sentence'])
        state['sentence'] = torch.where(starts[:, None], moved, state['sentence'])
        word = torch.where(starts[:, None], state['sentence'], state['word'])
        state['word'] = self.word(self.words(ids), word)
        state['ended'] = state['ended'] + behind
        state['place'] = torch.where(starts, 0, state['place'] + 1)
        if self.templates:
            chosen = self.action(state['sentence']).argmax(-1)
            state['mode'] = torch.where(starts, chosen, state['mode'])
        stop, go_on = self._log_stop(state, behind)
        logs = self._log_words(state) + go_on
        return torch.cat([logs[:, :EOS_ID], stop, logs[:, EOS_ID + 1 :]], 1)

    def _log_words(self, state):
        "Log-probabilities inside a sentence: written, or copied; the last place takes a '.'."
        logits = self.head(state['word']).index_fill(1, torch.tensor(self.barred), -math.inf)
        full = state['place'] >= self.config.sentence_words - 1
        others = torch.arange(logits.shape[1]) != PERIOD
        logs = logits.masked_fill(full[:, None] & others, -math.inf).log_softmax(-1)
        at = state['place'].clamp(max=len(FORCED) - 1)
        forced = state['queue'].gather(1, at[:, None])
        copied = torch.full_like(logs, -math.inf).scatter(1, forced, 0.0)
        return torch.where(state['mode'][:, None] > 0, copied, logs)

    def _log_stop(self, state, behind):
        "Log-probabilities [R, 1] to stop and to go on; one stops behind a '.' alone."
        logit = self.stop(state['sentence'])
        if state.greedy and self.config.stop == 'threshold':
            logit = torch.where(logit > 0, math.inf, -math.inf)
        full = state['ended'] >= self.config.sentences
        logit = torch.where((behind & full)[:, None], math.inf, logit)
        logit = torch.where(behind[:, None], logit, -math.inf)
        return nn.functional.logsigmoid(logit), nn.functional.logsigmoid(-logit)

    def word_logits(self, h):
        return h

    def losses(self, batch, images, read, label_smoothing=0.0):
        losses = super().losses(batch, images, read, label_smoothing)
        wanted = batch.extras.get('tags')
        if wanted is not None:
            found = self.tags(images.mean)[:, 0]
            losses['tags'] = nn.functional.binary_cross_entropy_with_logits(found, wanted)
        return losses

    def make_extras(self, data, train):
        "A tag: whether a report is longer than the training reports on average."
        return {'tags': (data.lengths > train.lengths.float().mean()).float().numpy()}


SIZES = dict(text_vocab=7, image_vocab=5, grid=2, views=1, max_words=10, visual='tokens', d=6)


def toy(cls=Toy, **changes):
    config = SystemConfig(**{**SIZES, 'sentences': 2, 'sentence_words': 2, **changes})
    with torch_rng('two levels', 2):
        model = cls(config).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.7 * torch.randn_like(parameter)
    return model


class WithTemplates(Toy):
    templates = True


def images_of(studies=3):
    ids = torch.arange(studies)[:, None, None].expand(-1, 1, 4) % 5
    there = torch.ones(studies, 1, dtype=torch.bool)
    return Batch([str(i) for i in range(studies)], ids, None, torch.zeros(studies, 1).long(), there)


def all_strings(most, words=(PERIOD, A, B)):
    "Every string of some words up to a length."
    for length in range(most + 1):
        yield from itertools.product(words, repeat=length)


def log_probability(model, images, text):
    "Of a string with its end, for one study."
    ids = torch.tensor([[BOS_ID, *text, EOS_ID]])
    logs = word_log_probs(model.unroll(ids[:, :-1], images).logits)
    return float(logs.gather(2, ids[:, 1:, None]).sum().detach())


@pytest.mark.parametrize('cls', [Toy, WithTemplates])
@pytest.mark.parametrize(('sentences', 'words'), [(2, 2), (1, 3), (3, 1)])
def test_all_strings_share_one_probability(cls, sentences, words):
    if cls is WithTemplates and words < len(FORCED):
        sentences, words = 1, len(FORCED)
    model = toy(cls, sentences=sentences, sentence_words=words)
    images = model.encode_image(images_of())
    for study in range(3):
        one = images.select(torch.tensor([study]))
        total = sum(
            math.exp(log_probability(model, one, s)) for s in all_strings(sentences * words)
        )
        assert abs(total - 1) < 1e-9


def by_levels(model, mean, text, sentences, words):
    "(stop terms, word terms) of a report's log-probability, sentence after sentence."
    stops, of_words = 0.0, 0.0
    h, texts = torch.zeros(1, 6).double(), []
    rest = list(text)
    while rest:
        cut = rest.index(PERIOD) + 1
        texts.append(rest[:cut])
        rest = rest[cut:]
    for number, sentence in enumerate([*texts, None]):
        h = model.sentence(mean, h)
        if 0 < number < sentences:
            log_stop = nn.functional.logsigmoid(model.stop(h) * (1 if sentence is None else -1))
            stops += float(log_stop)
        if sentence is None:
            break
        state, last = h, PERIOD if number else BOS_ID
        for place, word in enumerate(sentence):
            state = model.word(model.words(torch.tensor([last])), state)
            if place < words - 1:
                of_words += float(
                    model.head(state)[0, [PERIOD, A, B]].log_softmax(-1)[word - PERIOD]
                )
            last = word
    return stops, of_words


def test_a_flat_report_is_worth_its_stops_and_its_words():
    model = toy(sentences=3, sentence_words=4)
    images = model.encode_image(images_of())
    for text in ([A, PERIOD], [A, B, PERIOD, PERIOD, B, A, A, PERIOD], [PERIOD, A, PERIOD]):
        for study in range(3):
            one = images.select(torch.tensor([study]))
            with torch.no_grad():
                stops, words = by_levels(model, one.mean, text, 3, 4)
            assert stops < 0 and words < 0
            assert abs(log_probability(model, one, text) - stops - words) < 1e-9


def test_one_sentence_where_stopping_is_certain():
    model = toy(sentences=3, sentence_words=3)
    with torch.no_grad():
        model.stop.bias += 1000
    for options in (dict(beams=1), dict(beams=3), dict(sample=True)):
        for text in generate(model, images_of(), **options).ids:
            assert text.count(PERIOD) == 1 and text[-1] == PERIOD


def test_a_wide_beam_finds_the_best_string():
    model = toy()
    images = model.encode_image(images_of())
    found = generate(model, images_of(), beams=81)
    for study in range(3):
        one = images.select(torch.tensor([study]))
        scored = {s: log_probability(model, one, s) for s in all_strings(4)}
        assert found.ids[study] == list(max(scored, key=scored.get))
        assert abs(found.scores[study] - max(scored.values())) < 1e-9


def naive_greedy(model, mean, sentences, words, rule):
    "The published double loop: sentence after sentence, word after word."
    report, h = [], torch.zeros(1, 6).double()
    for number in range(sentences + 1):
        h = model.sentence(mean, h)
        stop = float(torch.sigmoid(model.stop(h)))
        state, last, place = h, PERIOD if number else BOS_ID, 0
        while True:
            state = model.word(model.words(torch.tensor([last])), state)
            p = model.head(state)[0, [PERIOD, A, B]].softmax(-1)
            if place == 0 and number:
                best = stop > 0.5 if rule == 'threshold' else stop > (1 - stop) * float(p.max())
                if best or number == sentences:
                    return report
            last = PERIOD if place == words - 1 else PERIOD + int(p.argmax())
            report.append(last)
            place += 1
            if last == PERIOD:
                break
    return report


def test_greedy_stops_by_its_rule():
    "With the threshold: at p > 1/2; jointly: where <eos> is the likeliest word."
    texts = {}
    for rule in ('threshold', 'joint'):
        model = toy(sentences=4, sentence_words=3, stop=rule, max_words=20)
        with torch.no_grad():
            model.stop.weight *= 0.1
            model.stop.bias.fill_(-0.1)  # p is a little below 1/2
            texts[rule] = generate(model, images_of(), beams=1).ids
            mean = model.encode_image(images_of()).mean
            naive = [naive_greedy(model, mean[[i]], 4, 3, rule) for i in range(3)]
        assert texts[rule] == naive
    assert texts['threshold'] != texts['joint']


def test_a_sample_draws_both_levels():
    "Shares of sampled strings against their probabilities."
    model = toy()
    batch = images_of().select([0] * 4000)
    batch.study_ids = [str(i) for i in range(4000)]
    written = generate(model, batch, sample=True)
    one = model.encode_image(images_of(1))
    for text in ([PERIOD], [A, PERIOD], [B, PERIOD, PERIOD]):
        p = math.exp(log_probability(model, one, text))
        share = written.ids.count(text) / 4000
        assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / 4000) + 1e-9


def test_forced_words_are_written_and_read_back():
    "Where the action is to copy, the template's words come with probability one."
    model = toy(WithTemplates, sentences=2, sentence_words=4)
    with torch.no_grad():
        model.action.weight.zero_()
        model.action.bias.copy_(torch.tensor([0.0, 1.0]))
    images = model.encode_image(images_of())
    for options in (dict(beams=1), dict(beams=3), dict(sample=True)):
        written = generate(model, images_of(), **options)
        for text, logs in zip(written.ids, written.logprobs, strict=True):
            assert text in (FORCED, FORCED * 2)
            assert logs[1:3] == [0.0, 0.0]
        if options.get('beams') != 1:  # greedy has stopped by a threshold
            read = score_written(model, images, written)
            for a, b in zip(read.logprobs, written.logprobs, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-9)


def test_beams_keep_their_own_actions_and_places():
    "Rows that go on from another row take its mode, queue and place along."
    model = toy(WithTemplates, sentences=2, sentence_words=4)
    state = model.start(model.encode_image(images_of(1)), beams=2)
    model.step(torch.tensor([BOS_ID, BOS_ID]), state)
    state['mode'] = torch.tensor([0, 1])
    state['queue'][1] = torch.tensor([A, A, PERIOD])
    state.reorder(torch.tensor([1, 1]))
    assert state['mode'].tolist() == [1, 1]
    p = word_log_probs(model.step(torch.tensor([A, A]), state)).exp()
    assert p[:, A].tolist() == [1.0, 1.0] and state['place'].tolist() == [1, 1]


class WithUnknownWords(Toy):
    barred = (0, BOS_ID, EOS_ID)


def test_a_two_level_system_is_trained_with_its_extras(tmp_path, monkeypatch):
    "First the tags alone, then the words beside an image encoder that stands still."
    monkeypatch.setitem(catalogue.SYSTEMS, 'show_tell', WithUnknownWords)
    studies = make_studies(8, seed=3, style='single') + make_studies(
        2, seed=4, style='single', split='val'
    )
    sizes = dict(visual='small_cnn', grid=7, d=8, max_words=80, sentences=16, sentence_words=60)
    stages = (
        Stage(name='tags', steps=2, lambdas=(0, 0, 0), trunk_lr=1e-3),
        Stage(name='words', steps=2, lambdas=(1, 0, 0), tags=0.0, trunk_lr=0.0),
    )
    settings = TrainConfig(stages=stages, batch_size=4, monitor='loss', beam=1, log_every=1)
    data = DataConfig(min_count=1, max_words=80, crops=0)
    config = RunConfig(model=SystemConfig(**sizes), data=data, train=settings)
    made = prepare(config, studies)
    assert made.model.config.period_id == PERIOD  # as the toy takes it
    assert made.data['val'].batch([0, 1]).extras['tags'].shape == (2,)
    weights = train_and_watch(made, tmp_path / 'r')
    first, second = (
        {key for key in before if not torch.equal(before[key], after[key])}
        for before, after in itertools.pairwise(weights)
    )
    trunk = {key for key in first | second if key.startswith('grid.encoder')}
    assert trunk <= first and not trunk & second and trunk
    assert 'tags.weight' in first - second and 'word.weight_ih' in second - first
    rows = read_log(tmp_path / 'r', 'train')
    assert all({'ce', 'tags'} <= set(row) and math.isfinite(row['ce']) for row in rows)
    assert rows[0]['loss'] == rows[0]['tags'] and rows[-1]['loss'] == rows[-1]['ce']


def test_extras_need_a_row_for_each_study():
    studies = make_studies(2, seed=3, style='single')
    made = prepare(run_preset('phantom', 'st').override({'model.d': 8}), studies)
    with pytest.raises(UARError, match='one row for each study'):
        made.data['train'].add_extras(tags=np.zeros(3))
