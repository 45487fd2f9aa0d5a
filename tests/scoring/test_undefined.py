"Scores of too few studies are undefined: never 0, never chosen by, and null in files."

import json
import math

import numpy as np
import pytest

from forge import TINY_MODEL
from uar_nb.apps.audit import score_baselines
from uar_nb.apps.pipeline import evaluate_checkpoint, fit
from uar_nb.checkpoint import load_checkpoint
from uar_nb.config import run_preset
from uar_nb.core import UARError, atomic_write, to_json
from uar_nb.data.study import Finding
from uar_nb.experiment.prepare import prepare
from uar_nb.experiment.run_folder import read_log
from uar_nb.phantom.generator import make_studies, write_studies
from uar_nb.scoring.evaluate import evaluate
from uar_nb.scoring.metrics import (
    bootstrap,
    bootstrap_mean,
    findings_scores,
    score_reports,
    score_table,
    undefined_scores,
)
from uar_nb.scoring.naive_baselines import (
    PairScores,
    all_baselines,
    choosing_scores,
    constant_baseline,
    shuffle_control,
)
from uar_nb.training import Validator

NORMAL = 'the heart is normal . the lungs are clear .'
LEFT = 'there is a small left pleural effusion .'
ALL = ('BLEU', 'ROUGE_L', 'CIDEr')
TINY = {
    **TINY_MODEL,
    'model.visual': 'small_cnn',
    'data.crops': 0,
    'train.batch_size': 4,
    'train.stages.0.steps': 2,
    'train.stages.1.steps': 2,
    'train.beam': 1,
    'train.threads': 1,
}


def strict_json(text):
    "JSON as other programs read it."

    def refuse(word):
        raise AssertionError(f'{word} is no JSON')

    return json.loads(text, parse_constant=refuse)


def test_cider_of_one_study():
    scores = score_reports([NORMAL], [NORMAL], metrics=ALL)
    assert math.isnan(scores['CIDEr']) and math.isnan(scores.per_report['CIDEr'][0])
    assert scores['BLEU_4'] == pytest.approx(1) and scores['ROUGE_L'] == 1
    assert 'CIDEr: ' in scores.recipe['undefined'] and 'one reference' in scores.recipe['undefined']
    assert strict_json(to_json(scores.to_dict()))['values']['CIDEr'] is None
    row = str(scores).splitlines()[1].split()
    assert row[-1] == '–'
    assert 'undefined: CIDEr' in str(scores)


@pytest.mark.parametrize('n', [2, 5])
def test_cider_of_equal_references(n):
    scores = score_reports([NORMAL, *[LEFT] * (n - 1)], [NORMAL] * n, metrics=['CIDEr'])
    assert math.isnan(scores['CIDEr']) and 'say the same' in scores.recipe['undefined']


def test_cider_of_two_that_differ_is_as_it_was():
    scores = score_reports([NORMAL, LEFT], [NORMAL, LEFT], metrics=ALL)
    assert scores['CIDEr'] == pytest.approx(10) and 'undefined' not in scores.recipe


def test_references_that_differ_only_in_how_often_a_word_stands():
    "The sets of runs of words are what the weights see."
    assert 'CIDEr' in undefined_scores(['a a', 'a a'])
    assert 'CIDEr' not in undefined_scores(['a a', 'a a a'])  # the run of three is in one alone


def test_a_score_that_is_not_asked_for_is_not_named():
    assert 'undefined' not in score_reports([NORMAL], [NORMAL], metrics=['BLEU']).recipe


def test_bleu_of_references_shorter_than_its_runs():
    scores = score_reports(['no mass .'] * 2, ['no mass .', 'clear .'], metrics=ALL)
    assert math.isnan(scores['BLEU_4']) and scores['BLEU_3'] > 0
    assert 'no reference has 4 words' in scores.recipe['undefined']


def test_a_subset_of_one_keeps_the_weights_of_the_whole():
    scores = score_reports([NORMAL, LEFT], [NORMAL, LEFT], metrics=['CIDEr'])
    assert scores.subset([0])['CIDEr'] == pytest.approx(10)
    alone = score_reports([NORMAL], [NORMAL], metrics=['CIDEr'])
    assert math.isnan(alone.subset([0])['CIDEr'])


def test_interval_of_one_study_is_none():
    scores = score_reports([NORMAL], [NORMAL], metrics=ALL)
    for key in scores.values:
        assert all(map(math.isnan, scores.interval(key)))
    assert '[–]' in str(score_table({'one': scores}, intervals=True))
    assert all(map(math.isnan, bootstrap([0.5])))
    assert all(map(math.isnan, bootstrap_mean([0.1, 0.9, 0.4], ['a', 'a', 'a'])))
    assert not any(map(math.isnan, bootstrap_mean([0.1, 0.9, 0.4], ['a', 'a', 'b'])))


def test_findings_where_nothing_is_to_find():
    effusion = Finding('effusion', 'left')
    normal = findings_scores([[], []], [[], []])
    assert all(math.isnan(normal[name]) for name in ('precision', 'recall', 'f1'))
    assert all(map(math.isnan, normal['f1_interval'])) and normal['exact'] == 1
    invented = findings_scores([[effusion], []], [[], []])
    assert math.isnan(invented['recall']) and (invented['precision'], invented['f1']) == (0, 0)
    silent = findings_scores([[], []], [[effusion], []])
    assert math.isnan(silent['precision']) and (silent['recall'], silent['f1']) == (0, 0)
    assert math.isnan(silent['by_kind']['effusion']['precision'])
    nobody = findings_scores([], [])
    assert math.isnan(nobody['f1']) and math.isnan(nobody['exact'])


def test_resamples_without_a_finding_do_not_count():
    effusion = Finding('effusion', 'left')
    found = findings_scores([[effusion], [], []], [[effusion], [], []])
    assert found['f1'] == 1 and found['f1_interval'] == (1, 1)  # not down to 0


def test_no_constant_is_chosen_by_what_is_undefined():
    assert choosing_scores([NORMAL, LEFT], [NORMAL]) == ('BLEU_4',)
    assert choosing_scores([NORMAL] * 3) == ('BLEU_4',)
    assert choosing_scores(['clear .']) == ()
    with pytest.raises(UARError, match='all references say the same') as refused:
        constant_baseline([NORMAL, LEFT], [NORMAL] * 3, 'CIDEr')
    assert 'BLEU_1' in refused.value.remedy
    assert constant_baseline([NORMAL, LEFT], [NORMAL] * 3, 'BLEU_1') == NORMAL


def test_a_sample_of_one_text_in_a_set_of_two():
    reports = [NORMAL] * 5000 + [LEFT]
    assert constant_baseline(reports, [NORMAL, LEFT], 'CIDEr') in (NORMAL, LEFT)


def test_pairs_and_shuffles_of_equal_references():
    _, cider = PairScores([NORMAL] * 3).bleu_and_cider(NORMAL)
    assert np.isnan(cider).all()
    control = shuffle_control([NORMAL] * 3, [NORMAL] * 3)
    assert math.isnan(control['CIDEr']) and control['BLEU_4'] == pytest.approx(1)


def test_audit_of_a_split_of_one_report():
    found = score_baselines({'train': [NORMAL, LEFT], 'val': [NORMAL], 'test': [LEFT]}, 1)
    assert 'best constant by BLEU_4' in found.rows and 'best constant by CIDEr' not in found.rows
    assert all(row['CIDEr'] is None for row in found.rows.values())


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf, np.float64('nan')])
def test_files_hold_null(tmp_path, value):
    file = atomic_write(tmp_path / 'x.json', {'a': [value, {'b': (value, 1.5)}]})
    assert strict_json(file.read_text()) == {'a': [None, {'b': [None, 1.5]}]}


@pytest.fixture(scope='module')
def few():
    "Six training studies and three for validation, of which two are alike; a tiny model."
    studies = make_studies(6, 3, style='single')
    studies += make_studies(3, 3, style='single', split='val')
    return studies, run_preset('phantom').override(TINY)


def validator(few, monitor, reports=None, findings=None, eval_studies=0, val=3):
    "A validator whose validation studies say what a test wants."
    from dataclasses import replace

    studies, config = few
    changed = []
    for study in [study for study in studies if study.split == 'train'] + studies[6 : 6 + val]:
        if study.split == 'val':
            study = replace(study, report=reports or study.report)
            study = study if findings is None else replace(study, findings=findings)
        changed.append(study)
    config = config.override({'train.monitor': monitor, 'train.eval_studies': eval_studies})
    return Validator(config.train, prepare(config, changed).data['val'])


@pytest.mark.parametrize(
    'monitor, options, chosen, why',
    [
        ('CIDEr', {}, 'CIDEr', None),
        ('CIDEr', dict(val=1), 'BLEU_4', 'there is one reference'),
        ('CIDEr', dict(eval_studies=1), 'BLEU_4', 'there is one reference'),
        ('CIDEr', dict(reports='The heart is normal.'), 'BLEU_4', 'all references say the same'),
        ('CIDEr', dict(reports='Clear.'), 'loss', 'all references say the same'),
        ('BLEU_4', dict(reports='Clear.'), 'loss', 'no reference has 4 words'),
        ('BLEU_4', dict(val=1), 'BLEU_4', None),
        ('findings_f1', dict(findings=()), 'loss', 'no validation study has a finding'),
        ('loss', dict(val=1), 'loss', None),
    ],
)
def test_what_chooses_the_checkpoint(few, monitor, options, chosen, why):
    judge = validator(few, monitor, **options)
    assert judge.monitor == chosen
    assert (
        (judge.why is None)
        if why is None
        else (why in judge.why and chosen.split('_')[0] in judge.why)
    )


def test_a_training_with_one_validation_study(few, tmp_path):
    studies, config = few
    config = config.override({'train.monitor': 'CIDEr'})
    made = prepare(config, studies[:7])
    trained = fit(made, tmp_path / 'run', progress=False)
    assert trained['monitor'] == 'BLEU_4' and trained['best'] is not None
    rows = [strict_json(line) for line in (tmp_path / 'run' / 'log.jsonl').read_text().splitlines()]
    start = next(row for row in rows if row['kind'] == 'start')
    assert any('CIDEr of the validation studies is undefined' in note for note in start['notes'])
    assert all('CIDEr' not in row for row in read_log(tmp_path / 'run', 'val'))

    one = evaluate(trained['checkpoint'], made.data['val'], 1, folder=tmp_path / 'own', metrics=ALL)
    assert math.isnan(one.row()['CIDEr'])
    assert one.scores.recipe['cleaning'] == 'corrected'  # settled by the data, kept with the run
    assert load_checkpoint(trained['checkpoint']).data.rules == 'corrected'
    assert strict_json((tmp_path / 'own' / 'scores.json').read_text())['values']['CIDEr'] is None
    [line] = (tmp_path / 'own' / 'predictions.jsonl').read_text().splitlines()
    assert 'CIDEr' not in strict_json(line)['scores']

    write_studies(studies[:7], tmp_path / 'set')
    options = dict(scored='val', beams=1, metrics=ALL)
    evaluation, baselines = evaluate_checkpoint(
        tmp_path / 'set', load_checkpoint(trained['checkpoint']), tmp_path / 'files', **options
    )
    assert '–' in str(baselines.table(model=evaluation.row()))
    with pytest.raises(UARError, match='no baseline has a CIDEr'):
        baselines.best('CIDEr')


def test_baselines_of_studies_without_findings_have_no_f1(few):
    from dataclasses import replace

    studies, config = few
    normal = [replace(study, findings=(), report='The heart is normal.') for study in studies]
    data = prepare(config, normal).data
    baselines = all_baselines(data['train'], None, data['val'])
    assert math.isnan(baselines.row('most frequent')['F1'])
