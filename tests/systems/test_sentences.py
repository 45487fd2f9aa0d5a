"""Two levels behind the flat contract, against sums over all strings and double loops."""

import itertools
import math

import numpy as np
import pytest
import torch
from test_two_levels import SIZES, all_strings, images_of, log_probability
from torch import nn

from uar_nb.config import SystemConfig, system_preset
from uar_nb.core import BOS_ID, EOS_ID, PAD_ID, UNK_ID, UARError, torch_rng
from uar_nb.data.batch import Batch
from uar_nb.generation import generate, score_written, word_log_probs
from uar_nb.systems.sentences import HLSTM, SentenceWriter, StopHead, sentence_table

PERIOD, A, B = 4, 5, 6
WORDS = (UNK_ID, PERIOD, A, B)
TEMPLATE = [B, A, PERIOD]


class Copies(HLSTM):
    "An action at each step of the sentence level: write, or copy the words in a queue."

    def __init__(self, config):
        super().__init__(config)
        self.action = nn.Linear(config.d, 2)

    def open_levels(self, images, beams):
        rows = super().open_levels(images, beams)
        R = len(rows['h'])
        return rows | dict(mode=torch.zeros(R).long(), queue=torch.tensor([TEMPLATE] * R))

    def sentence_step(self, state):
        new = super().sentence_step(state)
        return new | dict(mode=self.action(new['sentence_h']).argmax(-1))

    def forced_words(self, state):
        at = state['place'].clamp(max=len(TEMPLATE) - 1)
        copied = state['queue'].gather(1, at[:, None])[:, 0]
        return torch.where(state['mode'] > 0, copied, super().forced_words(state))


def small(cls=HLSTM, **changes):
    "A model of seven words in float64, all its weights away from zero."
    sizes = {**SIZES, 'writer': 'hlstm', 'image_embedding': 'linear', 'period_id': PERIOD}
    config = SystemConfig(**(sizes | dict(sentences=2, sentence_words=2) | changes))
    with torch_rng('sentences', 1):
        model = cls(config).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.6 * torch.randn_like(parameter)
    return model


def study(model, number):
    return model.encode_image(images_of()).select(torch.tensor([number]))


@pytest.mark.parametrize(
    ('cls', 'sentences', 'words'), [(HLSTM, 2, 2), (HLSTM, 1, 3), (HLSTM, 3, 1), (Copies, 1, 3)]
)
def test_all_strings_share_one_probability(cls, sentences, words):
    model = small(cls, sentences=sentences, sentence_words=words)
    for number in range(3):
        one = study(model, number)
        found = [log_probability(model, one, s) for s in all_strings(sentences * words, WORDS)]
        assert abs(sum(map(math.exp, found)) - 1) < 1e-9


@torch.no_grad()
def by_levels(model, mean, text, sentences, words):
    "(stop terms, word terms) of a report's log-probability, sentence after sentence."
    zero = torch.zeros(1, 6).double()
    stops, of_words, h, c = 0.0, 0.0, zero, zero
    cuts = [i + 1 for i, word in enumerate(text) if word == PERIOD]
    sentences_of_text = [text[a:b] for a, b in itertools.pairwise([0, *cuts])]
    for number, sentence in enumerate([*sentences_of_text, None]):
        before = h
        h, c = model.sentence(mean, (h, c))
        if 0 < number < sentences:
            sign = 1 if sentence is None else -1
            stops += float(nn.functional.logsigmoid(sign * model.stop(before, h)))
        if sentence is None:
            break
        topic = torch.tanh(model.topic_state(h) + model.topic_image(mean))
        state, last = model.word.begin(topic), BOS_ID
        for place, word in enumerate(sentence):
            state = model.word(model.words(torch.tensor([last])), *state)
            if place < words - 1:
                logs = model.head(state[0])[0, list(WORDS)].log_softmax(-1)
                of_words += float(logs[WORDS.index(word)])
            last = word
    return stops, of_words


TEXTS = ([A, PERIOD], [A, B, PERIOD, PERIOD, B, A, UNK_ID, PERIOD], [PERIOD, A, PERIOD])


def test_a_flat_report_is_worth_its_stops_and_its_words():
    model = small(sentences=3, sentence_words=4)
    for text, number in itertools.product(TEXTS, range(3)):
        one = study(model, number)
        stops, words = by_levels(model, one.mean, text, 3, 4)
        assert stops < 0 and words < 0
        assert abs(log_probability(model, one, text) - stops - words) < 1e-9


def batch_of(texts):
    rows = [[BOS_ID, *text, EOS_ID] for text in texts]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [PAD_ID] * (longest - len(row)) for row in rows])
    seen = images_of(len(texts))
    parts = seen.image_ids, None, seen.view_ids, seen.view_mask, ids
    return Batch(seen.study_ids, *parts)


def test_the_two_losses_are_those_of_the_levels():
    model = small(sentences=3, sentence_words=4)
    batch = batch_of(TEXTS)
    images = model.encode_image(batch)
    parts = [by_levels(model, images.mean[[i]], text, 3, 4) for i, text in enumerate(TEXTS)]
    number = sum(len(text) + 1 for text in TEXTS)
    out = model(batch, {'ce': 2.0, 'stop': 3.0})
    stops, words = (-sum(column) / number for column in zip(*parts, strict=True))
    assert abs(float(out.losses['stop'].detach()) - stops) < 1e-9
    assert abs(float(out.losses['ce'].detach()) - words) < 1e-9
    assert abs(float(out.total.detach()) - 2 * words - 3 * stops) < 1e-9


def test_words_beyond_the_limits_are_left_out_of_the_loss():
    "A sentence of three words where two may stand, a third sentence, and a report that is cut."
    model = small().train()
    texts = [[A, B, PERIOD], [A, PERIOD, B, PERIOD, A, PERIOD], [A, PERIOD, B]]
    for text in texts:
        out = model(batch_of([text]), label_smoothing=0.1)
        assert all(bool(x.isfinite()) for x in out.losses.values())
        model.zero_grad()
        out.total.backward()
        assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    # the report that is cut: A '.' B count, what would stand behind B doesn't
    model.eval()
    out = model(batch_of([[A, PERIOD, B]]))
    logs = out.logits[0].gather(1, torch.tensor([[A], [PERIOD], [B]])).sum()
    assert abs(float(out.losses['ce'] + out.losses['stop'] + logs / 3)) < 1e-9


def test_one_sentence_where_stopping_is_certain():
    model = small(sentences=3, sentence_words=3)
    with torch.no_grad():
        model.stop.out.bias += 1000
    for options in (dict(beams=1), dict(beams=3), dict(sample=True)):
        for text in generate(model, images_of(), **options).ids:
            assert text.count(PERIOD) == 1 and text[-1] == PERIOD


def test_a_wide_beam_finds_the_best_string():
    model = small()
    found = generate(model, images_of(), beams=200)
    for number in range(3):
        one = study(model, number)
        scored = {s: log_probability(model, one, s) for s in all_strings(4, WORDS)}
        assert found.ids[number] == list(max(scored, key=scored.get))
        assert abs(found.scores[number] - max(scored.values())) < 1e-9


@torch.no_grad()
def naive_greedy(model, mean, sentences, words, rule):
    "The published double loop: sentence after sentence, word after word."
    zero = torch.zeros(1, 6).double()
    report, h, c = [], zero, zero
    for number in range(sentences + 1):
        before = h
        h, c = model.sentence(mean, (h, c))
        p_stop = float(torch.sigmoid(model.stop(before, h)))
        if number == sentences or (number and rule == 'threshold' and p_stop > 0.5):
            break
        topic = torch.tanh(model.topic_state(h) + model.topic_image(mean))
        state, last = model.word.begin(topic), BOS_ID
        for place in range(words):
            state = model.word(model.words(torch.tensor([last])), *state)
            p = model.head(state[0])[0, list(WORDS)].softmax(-1)
            if rule == 'joint' and place == 0 and number:
                best = 1.0 if words == 1 else float(p.max())
                if p_stop > (1 - p_stop) * best:
                    return report
            last = PERIOD if place == words - 1 else WORDS[int(p.argmax())]
            report.append(last)
            if last == PERIOD:
                break
    return report


@pytest.mark.parametrize('shift', [-3, -0.3, 0, 0.3, 3])
def test_greedy_stops_by_its_rule(shift):
    "With the threshold: at p > 1/2; jointly: where <eos> is the likeliest word."
    for rule in ('threshold', 'joint'):
        model = small(sentences=4, sentence_words=3, stop=rule, max_words=20)
        with torch.no_grad():
            model.stop.out.weight *= 0.3
            model.stop.out.bias.fill_(shift)
        mean = model.encode_image(images_of()).mean
        naive = [naive_greedy(model, mean[[i]], 4, 3, rule) for i in range(3)]
        assert generate(model, images_of(), beams=1).ids == naive


def test_the_two_rules_differ():
    texts = {}
    for rule in ('threshold', 'joint'):
        model = small(sentences=4, sentence_words=3, stop=rule, max_words=20)
        with torch.no_grad():
            model.stop.out.weight *= 0.01
            model.stop.out.bias.fill_(-0.1)  # p is a little below 1/2
        texts[rule] = generate(model, images_of(), beams=1).ids
    assert texts['threshold'] != texts['joint']
    assert all(text.count(PERIOD) == 4 for text in texts['threshold'])


def test_a_sample_draws_both_levels():
    "Shares of sampled strings against their probabilities."
    model = small()
    batch = images_of().select([0] * 4000)
    batch.study_ids = [str(i) for i in range(4000)]
    written = generate(model, batch, sample=True)
    one = study(model, 0)
    for text in ([PERIOD], [A, PERIOD], [B, PERIOD, PERIOD], [UNK_ID, PERIOD, A, PERIOD]):
        p = math.exp(log_probability(model, one, text))
        share = written.ids.count(text) / 4000
        assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / 4000) + 1e-9


def copying(**changes):
    "A model whose action is always to copy."
    model = small(Copies, **changes)
    with torch.no_grad():
        model.action.weight.zero_()
        model.action.bias.copy_(torch.tensor([0.0, 1.0]))
    return model


def test_forced_words_are_written_and_read_back():
    "Where the action is to copy, the template's words come with probability one."
    model = copying(sentence_words=4)
    images = model.encode_image(images_of())
    for options in (dict(beams=1), dict(beams=3), dict(sample=True)):
        written = generate(model, images_of(), **options)
        for text, logs in zip(written.ids, written.logprobs, strict=True):
            assert text in (TEMPLATE, TEMPLATE * 2) and logs[1:3] == [0.0, 0.0]
        if options.get('beams') != 1:  # greedy has stopped by a threshold
            read = score_written(model, images, written)
            for a, b in zip(read.logprobs, written.logprobs, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-9)


def test_beams_keep_their_own_actions_and_places():
    "Rows that go on from another row take its mode, queue and place along."
    model = copying(sentence_words=4)
    state = model.start(model.encode_image(images_of(1)), beams=2)
    model.step(torch.tensor([BOS_ID, BOS_ID]), state)
    state['mode'] = torch.tensor([0, 1])
    state['queue'][1] = torch.tensor([A, A, PERIOD])
    state.reorder(torch.tensor([1, 1]))
    assert state['mode'].tolist() == [1, 1]
    p = word_log_probs(model.step(torch.tensor([A, A]), state)).exp()
    assert p[:, A].tolist() == [1.0, 1.0] and state['place'].tolist() == [1, 1]


def test_rows_move_on_at_their_own_full_stop():
    "Two rows with full stops at different places: each has the plan of its own sentence number."
    model = small(sentences=4, sentence_words=4)
    state = model.start(study(model, 0), beams=2)
    plans = []
    for words in ([BOS_ID, BOS_ID], [A, PERIOD], [PERIOD, B], [A, PERIOD]):
        model.step(torch.tensor(words), state)
        plans.append(state['sentence_h'].clone())
    torch.testing.assert_close(plans[1][0], plans[0][0])
    torch.testing.assert_close(plans[1][1], plans[2][0])  # both in sentence 2
    torch.testing.assert_close(plans[2][1], plans[2][0])
    assert (plans[3][1] - plans[3][0]).abs().max() > 1e-4
    assert state['ended'].tolist() == [1, 2]


def test_the_stop_head_sees_both_states():
    with torch_rng('stop head'):
        head, before, after = StopHead(3).double(), *torch.randn(2, 4, 3).double()
    w = {name: value.detach().numpy() for name, value in head.state_dict().items()}
    seen = before.numpy() @ w['before.weight'].T + w['before.bias']
    seen = np.tanh(seen + after.numpy() @ w['after.weight'].T)
    ours = head(before, after).detach().numpy()
    np.testing.assert_allclose(ours, seen @ w['out.weight'][0] + w['out.bias'], atol=1e-12)


def test_sentences_of_reports():
    ids = torch.tensor([[1, 5, 4, 6, 6, 4, 2], [1, 5, 6, 5, 2, 0, 0], [1, 2, 0, 0, 0, 0, 0]])
    table, lengths = sentence_table(ids, PERIOD)
    assert table.tolist() == [
        [[5, 4, 0], [6, 6, 4]],
        [[5, 6, 5], [0, 0, 0]],
        [[0, 0, 0], [0, 0, 0]],
    ]
    assert lengths.tolist() == [[2, 3], [3, 0], [0, 0]]


def test_a_two_level_system_needs_the_full_stop():
    with pytest.raises(UARError, match='full stop'):
        HLSTM(system_preset('hlstm', text_vocab=9))
    bare = small(SentenceWriter)
    for call in (
        lambda: bare.open_levels(None, 1),
        lambda: bare.sentence_step(None),
        lambda: bare.word_step(None, None),
    ):
        with pytest.raises(NotImplementedError):
            call()
