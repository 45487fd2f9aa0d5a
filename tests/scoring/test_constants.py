"The best constant report against a search by pycocoevalcap, and the mean of random draws."

import statistics

import numpy as np
import pytest

from uar_nb.data.labels import read_findings
from uar_nb.data.study import Finding
from uar_nb.scoring import naive_baselines
from uar_nb.scoring.metrics import findings_scores, score_reports
from uar_nb.scoring.naive_baselines import (
    Baselines,
    best_constants,
    constant_baseline,
    constant_by_f1,
    derangements,
    random_baseline,
    random_scores,
    score_answers,
    shuffle_control,
)

KEYS = ('BLEU_1', 'BLEU_2', 'BLEU_3', 'BLEU_4', 'ROUGE_L', 'CIDEr')


def texts(seed, count):
    "Reports of a few words, some of them twice."
    rng = np.random.default_rng(seed)
    return [' '.join(rng.choice(list('abcdefg'), rng.integers(4, 9))) for _ in range(count)]


TRAIN, VAL = texts(0, 40) + texts(0, 3), texts(1, 9)


def official(report, by):
    "A constant's score by pycocoevalcap."
    return score_reports([report] * len(VAL), VAL, metrics=('BLEU', 'CIDEr'))[by]


@pytest.mark.parametrize('by', ['BLEU_1', 'BLEU_4', 'CIDEr'])
def test_every_training_report_is_tried(by):
    every = {report: official(report, by) for report in set(TRAIN)}
    assert every[constant_baseline(TRAIN, VAL, by)] == pytest.approx(max(every.values()), abs=1e-9)


def test_all_scores_choose_in_one_search_and_the_name_is_plain():
    found = best_constants(TRAIN, VAL)
    assert {by: c.report for by, c in found.items()} == {
        by: constant_baseline(TRAIN, VAL, by) for by in ('BLEU_4', 'CIDEr')
    }
    assert {c.name for c in found.values()} == {'constant by BLEU_4', 'constant by CIDEr'}
    assert {(c.tried, c.distinct) for c in found.values()} == {(40, 40)}


def test_where_all_are_too_many_the_name_says_of_how_many(monkeypatch):
    monkeypatch.setattr(naive_baselines, 'MOST_PAIRS', 40 * len(VAL) - 1)
    found = best_constants(TRAIN, VAL, candidates=5)['CIDEr']
    assert found.name == 'constant by CIDEr, best of 5 candidates'
    best = max(official(report, 'CIDEr') for report in TRAIN)
    assert official(found.report, 'CIDEr') <= best + 1e-9
    monkeypatch.setattr(naive_baselines, 'MOST_PAIRS', 40 * len(VAL))
    assert best_constants(TRAIN, VAL, candidates=5)['CIDEr'].name == 'constant by CIDEr'


REPORTS = [
    'the heart is normal . the lungs are clear .',
    'there is a right pneumothorax . the heart is normal .',
    'there is moderate cardiomegaly . there is a right pneumothorax .',
    'there is moderate cardiomegaly . the lungs are clear .',
]
EFFUSION = Finding('pleural_effusion', 'left')


def test_the_constant_by_f1_is_the_best_of_all():
    seen = [(Finding('pneumothorax', 'right'),), (Finding('cardiomegaly'),), (), None]
    seen += [(Finding('cardiomegaly'), EFFUSION)] * 2
    true = [listed for listed in seen if listed is not None]
    f1 = {r: findings_scores([read_findings(r)] * len(true), true)['f1'] for r in REPORTS}
    assert len(set(f1.values())) == len(REPORTS)
    found = constant_by_f1(REPORTS, seen)
    assert found.report == max(f1, key=f1.get) and found.name == 'constant by F1'
    assert best_constants(REPORTS, REPORTS, seen)['F1'] == found
    assert 'F1' not in best_constants(REPORTS, REPORTS)
    assert 'F1' not in best_constants(REPORTS, REPORTS, [(), None])


def test_many_answers_are_scored_as_pycocoevalcap_scores_each():
    answers = [random_baseline(TRAIN, len(VAL), seed) for seed in range(4)]
    for found, reports in zip(score_answers(answers, VAL), answers, strict=True):
        wanted = score_reports(reports, VAL, metrics=('BLEU', 'ROUGE_L', 'CIDEr'))
        assert [found[key] for key in KEYS] == pytest.approx([wanted[key] for key in KEYS])


def test_random_is_the_mean_of_twenty_draws_with_their_deviation():
    found = random_scores(TRAIN, len(VAL), lambda answers: score_answers(answers, VAL), seed=3)
    of_each = [
        score_reports(random_baseline(TRAIN, len(VAL), seed), VAL, metrics=('CIDEr',))['CIDEr']
        for seed in range(3, 23)
    ]
    assert found['draws'] == 20
    assert found['scores']['CIDEr'] == pytest.approx(statistics.mean(of_each))
    assert found['sd']['CIDEr'] == pytest.approx(statistics.stdev(of_each))


def test_the_row_of_random_reports_shows_the_mean_and_says_so():
    found = dict(scores={'CIDEr': 0.5, 'F1': None}, sd={'CIDEr': 0.05, 'F1': None}, draws=20)
    baselines = Baselines({'random': ['x']}, {}, {}, means={'random': found})
    row = baselines.row('random')
    assert row['CIDEr'] == 0.5 and row['F1'] != row['F1'] and row['std'] == {'CIDEr': 0.05}
    assert row['note'] == 'mean of 20 draws; standard deviation: CIDEr 0.050'


def test_the_shuffle_control_shows_severity_too():
    true = [[Finding('cardiomegaly', severity='mild')]] * 2
    said = [[Finding('cardiomegaly', severity='severe')]] * 2
    found = shuffle_control(VAL[:2], VAL[:2], n=1, predicted=said, true=true)
    assert derangements(2, 1).tolist() == [[1, 0]]
    assert (found['F1'], found['F1_with_severity']) == (1, 0)
    assert (found['exact'], found['exact_with_severity']) == (1, 0)
