"""Rewards: equal to pycocoevalcap for each report; the gradient of a tiny system against every
report counted; a stage with a reward stopped and resumed, for several rows and for UAR."""

import itertools
import signal

import numpy as np
import pytest
import torch

from uar_nb.config import Stage, SystemConfig, run_preset
from uar_nb.core import BOS_ID, EOS_ID, UNK_ID, UARError, derive_seed, numpy_rng, torch_rng
from uar_nb.data.batch import Batch
from uar_nb.experiment.prepare import prepare
from uar_nb.experiment.rewards import RewardTable, policy_loss, report_words, self_critical
from uar_nb.experiment.run_folder import read_log
from uar_nb.generation import generate, word_log_probs
from uar_nb.model import UAR
from uar_nb.phantom.generator import make_studies
from uar_nb.systems.writers import Images, Writer
from uar_nb.tokenizer.dvae import DVAE, DVAEConfig
from uar_nb.training import Trainer


def random_reports(n, seed, longest=14):
    "Reports of words that repeat; the first is empty, the next have one and two words."
    rng = numpy_rng('rewards test', seed)
    lengths = [0, 1, 2, *rng.integers(3, longest, n - 3)]
    return [rng.integers(4, 10, length).tolist() for length in lengths]


def texts(reports):
    return [' '.join(map(str, words)) for words in reports]


def test_bleu_of_each_report_equals_pycocoevalcap():
    scorer = pytest.importorskip('pycocoevalcap.bleu.bleu_scorer')
    reports, references = random_reports(40, 1), random_reports(40, 2)[::-1]
    theirs = scorer.BleuScorer(n=4)
    for report, reference in zip(texts(reports), texts(references), strict=True):
        theirs += (report, [reference])
    each = theirs.compute_score(option='closest', verbose=0)[1][3]
    ours = RewardTable(references).score('bleu4', reports, references)
    np.testing.assert_allclose(ours, each, atol=1e-9)
    assert 0 < ours.max() < 1


def test_cider_of_each_report_equals_pycocoevalcap():
    "Frequencies are those of the references there, so the table is made of them."
    scorer = pytest.importorskip('pycocoevalcap.cider.cider_scorer')
    reports, references = random_reports(40, 3), random_reports(40, 4)[::-1]
    reports[5] = [99, 98, *references[5]]  # words that no reference has
    reports[6] = references[6]
    theirs = scorer.CiderScorer(n=4, sigma=6.0)
    for report, reference in zip(texts(reports), texts(references), strict=True):
        theirs += (report, [reference])
    each = theirs.compute_score()[1]
    ours = RewardTable(references).score('cider', reports, references)
    np.testing.assert_allclose(ours, each, atol=1e-9)
    assert ours.argmax() == 6


def test_frequencies_are_those_of_training():
    table = RewardTable([[5, 6], [5, 7], [8, 9]])
    a, b = table.score('cider', [[5, 9], [8, 6]], [[5, 6], [8, 9]])
    assert 0 < a < b  # 5 stands in two training reports, 8 in one
    assert RewardTable([[5, 6]]).score('cider', [[5, 6]], [[5, 6]])[0] == 0
    with pytest.raises(UARError, match='use one of'):
        table.score('meteor', [[5]], [[5]])


class TwoWords(Writer):
    "The next word depends on the image and on the last word."

    def encode(self, grid):
        return Images(grid.places, grid.mask, grid.mean)

    def open(self, images, beams, max_len):
        return dict(image=images.mean.repeat_interleave(beams, 0))

    def advance(self, ids, state):
        return state['image'] + self.embed_words(ids)


def two_words(ends=False, sharp=1.0, **changes):
    "A system of two words, at most two of them a report; with `ends` reports may end earlier."
    config = SystemConfig(text_vocab=5, image_vocab=4, grid=2, views=1, max_words=2, d=3)
    config = config.override({'visual': 'tokens', 'dropout': 0.0} | changes)
    with torch_rng('two words'):
        model = TwoWords(config).double()
        with torch.no_grad():
            model.words.weight.normal_()
            model.head.weight.normal_()
            model.head.weight *= sharp
            model.head.bias[EOS_ID] = 0.5 if ends else -1e4
    return model


def copies(n):
    "The same study n times under different names."
    ids, report = torch.tensor([[[0, 1, 2, 3]]]), torch.tensor([[BOS_ID, 4, 3, EOS_ID]])
    there, views = torch.ones(n, 1, dtype=torch.bool), torch.zeros(n, 1, dtype=torch.long)
    names = [str(i) for i in range(n)]
    return Batch(names, ids.repeat(n, 1, 1), None, views, there, report.repeat(n, 1))


EARNED = {(3, 3): 1.0, (3, 4): 0.2, (4, 3): 2.0, (4, 4): -0.5, (): 0.4, (3,): -1.0, (4,): 1.5}
WORDS = (UNK_ID, 4)


def earned(reports, references):
    return np.array([EARNED[tuple(words)] for words in reports])


def weights(model):
    return [p for name, p in model.named_parameters() if 'grid' in name or 'words' in name]


def log_p(model, rows):
    "log p of each drawn word [1, T], by the model's own steps."
    state, logs = model.start(model.encode_image(copies(1))), []
    for last, word in itertools.pairwise((BOS_ID, *rows)):
        logs.append(word_log_probs(model.step(torch.tensor([last]), state))[0, word])
    return torch.stack(logs)[None]


def all_reports(ends):
    "Every string that the system can write, with its end where it has one."
    strings = [pair for pair in itertools.product(WORDS, repeat=2)]
    return strings + [(EOS_ID,), *((word, EOS_ID) for word in WORDS)] if ends else strings


def exact_gradient(model, ends):
    "(gradient of the expected reward by autograd, probability and log-probabilities of each)."
    logs = {rows: log_p(model, rows) for rows in all_reports(ends)}
    values = {rows: EARNED[tuple(w for w in rows if w != EOS_ID)] for rows in logs}
    expected = sum(log.sum().exp() * values[rows] for rows, log in logs.items())
    assert abs(sum(float(log.detach().sum().exp()) for log in logs.values()) - 1) < 1e-9
    return torch.autograd.grad(expected, weights(model), retain_graph=True), logs, values


@pytest.mark.parametrize('ends', [False, True])
@pytest.mark.parametrize('baseline', [0.0, 0.7, -3.0])
def test_all_reports_weighted_give_the_exact_gradient(ends, baseline):
    model = two_words(ends)
    exact, logs, values = exact_gradient(model, ends)
    loss = 0.0
    for rows, log in logs.items():
        there = torch.ones(1, len(rows), dtype=torch.bool)
        one = policy_loss(log, there, torch.tensor([values[rows] - baseline], dtype=torch.float64))
        loss = loss + log.sum().exp().detach() * one * len(rows)  # the loss is a mean over words
    for ours, theirs in zip(torch.autograd.grad(loss, weights(model)), exact, strict=True):
        torch.testing.assert_close(-ours, theirs, atol=1e-12, rtol=0)


@pytest.mark.parametrize('baseline', [0.0, 5.0, 'greedy', 'others'])
def test_drawn_reports_give_it_on_average(baseline):
    "The mean of 40 estimates lies within four standard errors of the exact gradient."
    model = two_words()
    exact, _, _ = exact_gradient(model, ends=False)
    exact, batch, estimates = torch.cat([g.flatten() for g in exact]), copies(50), []
    for seed in range(40):
        loss, _ = self_critical(model, batch, earned, samples=2, baseline=baseline, seed=seed)
        grads = torch.autograd.grad(2 * loss, weights(model))  # two words per report
        estimates.append(-torch.cat([g.flatten() for g in grads]))
    estimates = torch.stack(estimates)
    error = estimates.mean(0) - exact
    assert (error.abs() <= 4 * estimates.std(0) / 40**0.5 + 1e-12).all()
    assert error.norm() < 0.3 * exact.norm()


def test_equal_sample_and_greedy_move_nothing():
    model = two_words(sharp=1e3)
    loss, stats = self_critical(model, copies(3), earned)
    loss.backward()
    assert stats['reward'] == stats['reward_greedy']
    assert all(not p.grad.any() for p in weights(model))


def test_reports_are_read_back_as_they_were_drawn():
    "Without dropout the loss is what the drawn words' own log-probabilities give."
    model, batch = two_words(ends=True), copies(20)
    loss, stats = self_critical(model, batch, earned, baseline=0.25, seed=4)
    drawn = generate(model, batch, sample=True, seed=derive_seed('reward', 4, 0))
    lengths = np.array(
        [len(words) + ended for words, ended in zip(drawn.ids, drawn.ended, strict=True)]
    )
    assert set(lengths) == {1, 2}
    by_hand = -(earned(drawn.ids, None) - 0.25) @ np.array(drawn.scores) / lengths.sum()
    assert abs(float(loss.detach()) - by_hand) < 1e-12
    assert stats['drawn_words'] == lengths.mean() and stats['reward'] == earned(drawn.ids, 0).mean()


def test_the_mode_of_a_model_stays():
    "Drawing is done in evaluation mode, reading in the mode of the model; frozen parts stay."
    model, batch = two_words(dropout=0.5).train(), copies(4)
    model.grid.eval()
    with torch_rng('mode'):
        a = self_critical(model, batch, earned, baseline=0.0)[0]
        b = self_critical(model, batch, earned, baseline=0.0)[0]
    assert model.training and not model.grid.training
    assert a != b  # dropout
    model.eval()
    assert (
        self_critical(model, batch, earned, baseline=0.0)[0]
        == self_critical(model, batch, earned, baseline=0.0)[0]
    )


@pytest.fixture(scope='module')
def studies():
    val = make_studies(2, seed=4, style='single', split='val')
    return make_studies(6, seed=3, style='single') + val


class Interrupted(Trainer):
    "Somebody presses Ctrl-C in its fourth step."

    def train_step(self, *args):
        if self.at.total == 3:
            signal.raise_signal(signal.SIGINT)
        return super().train_step(*args)


SMALL = {'model.d': 8, 'model.heads': 2, 'model.d_ff': 8, 'model.grid': 7, 'data.max_words': 8}
OF_UAR = {'model.grid': 14, 'model.cra_heads': 2, 'model.basis_size': 8, 'model.decoder_layers': 1}
OF_SYSTEMS = {'model.d_att': 8, 'model.layers': 1, 'model.memory_size': 8}


def small_run(row, **reward):
    "Two steps of words and four with a reward."
    config = run_preset('phantom', row)
    words = dict(name='words', steps=2, lr=1e-3)
    paid = dict(name='paid', steps=4, lr=1e-3, **reward)
    train = {'train.stages': [words, paid], 'train.beam': 1, 'train.eval_studies': 2}
    train |= {'train.batch_size': 4, 'train.monitor': 'loss', 'train.threads': 1}
    train |= {'train.log_every': 1}
    own = OF_UAR if row in ('uar', 'e') else OF_SYSTEMS
    return config.override(SMALL | own | train)


@pytest.mark.parametrize(
    ('row', 'reward'),
    [
        ('att2in-rl', dict(reward='cider')),
        ('topdown-rl', dict(reward='cider', samples=3, rl_weight=1.0)),
        ('cmm_rl', dict(reward='bleu4')),
        ('uar', dict(reward='cider', samples=2, mask_on=True, lambdas=(1.0, 1.0, 1.0))),
    ],
)
def test_a_stage_with_a_reward_is_stopped_and_resumed(row, reward, studies, tmp_path):
    "Stopped in the stage with a reward and gone on with, a training ends with the same bits."
    config = small_run(row, **reward)
    with torch_rng('tokenizer'):
        tokenizer = DVAE(DVAEConfig(codebook_size=16, width=16, stem=8, start='random')).eval()

    def trainer(folder, kind=Trainer):
        made = prepare(config, studies, tokenizer)
        data = made.data['train'], made.data['val'], made.tokenizer
        return kind(made.config, made.model, *data, tmp_path / folder, progress=False)

    whole = trainer('whole')
    assert isinstance(whole.model, UAR) == (row == 'uar')
    whole.fit()
    with pytest.raises(KeyboardInterrupt):
        trainer('again', Interrupted).fit()
    again = trainer('again')
    again.fit()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[key]), key
    rows = read_log(tmp_path / 'whole', 'train')
    assert ['rl' in r and 'reward' in r for r in rows] == [False] * 2 + [True] * 4


def test_presets_have_a_stage_with_a_reward():
    for row, score in (('att2in-rl', 'cider'), ('topdown-rl', 'cider'), ('cmm_rl', 'bleu4')):
        words, paid = run_preset('iu_xray', row).train.stages
        assert (words.reward, paid.reward, paid.rl_weight) == ('none', score, 0.99)
        assert paid.epochs == 40
    words, paid = run_preset('iu_xray', 'cmm_rl-published').train.stages
    assert (paid.lr, paid.trunk_lr, paid.schedule) == (1e-5, 1e-6, 'constant')
    with pytest.raises(UARError, match='reward'):
        Stage(steps=1, reward='meteor')


def test_words_of_a_batch():
    rows = torch.tensor([[1, 5, 6, 2, 0], [1, 7, 8, 9, 4], [1, 2, 0, 0, 0]])
    assert report_words(rows) == [[5, 6], [7, 8, 9, 4], []]
