"""What predictions may be compared, what is refused, and the numbers beside SciPy."""

import hashlib
import json

import numpy as np
import pytest
from scipy import stats

from uar_nb.core import UARError, to_json
from uar_nb.scoring.compare import SCORES, compare_predictions
from uar_nb.scoring.evaluate import read_predictions
from uar_nb.scoring.metrics import score_reports
from uar_nb.scoring.statistics import holm

RECIPE = dict(split='test', cleaning='iu_xray', truncation=60, unknown_words='<unk>')
WORDS = 'heart lungs are is normal clear no effusion . mass left right'.split()
REFERENCES = [' '.join(np.random.default_rng(n).choice(WORDS, 4 + n % 7)) + ' .' for n in range(10)]


def reports_of(seed, share=0.6):
    "Reports of which each word is the reference's, or chance."
    rng = np.random.default_rng(seed)
    return [
        ' '.join(word if rng.random() < share else rng.choice(WORDS) for word in text.split())
        for text in REFERENCES
    ]


def rows_of(reports, **columns):
    rows = []
    for n, (report, reference) in enumerate(zip(reports, REFERENCES, strict=True)):
        row = dict(id=f's{n}', reference=reference, original=reference, report=report)
        rows.append(row | {name: values[n] for name, values in columns.items()})
    return rows


def write(folder, rows, recipe=RECIPE, **about):
    folder.mkdir(parents=True)
    text = ''.join(to_json(row) + '\n' for row in rows)
    (folder / 'predictions.jsonl').write_text(text, encoding='utf-8')
    about |= dict(recipe=recipe, predictions=hashlib.sha256(text.encode()).hexdigest())
    (folder / 'scores.json').write_text(json.dumps(about), encoding='utf-8')
    return folder


@pytest.fixture
def pair(tmp_path):
    return [write(tmp_path / name, rows_of(reports_of(n))) for n, name in enumerate('ab')]


def test_the_numbers_are_those_of_scipy(pair):
    "Ten studies: all 1024 exchanges are tried, so p is exact."
    found = {row['score']: row for row in compare_predictions(pair).rows}
    assert list(found) == ['BLEU_4', 'ROUGE_L', 'CIDEr']
    scores = [
        score_reports(reports_of(n), REFERENCES, metrics=('BLEU', 'ROUGE_L', 'CIDEr'))
        for n in (0, 1)
    ]
    for key in ('ROUGE_L', 'CIDEr'):
        first, other = (np.array(one.per_report[key]) for one in scores)
        wanted = stats.permutation_test(
            (other, first),
            lambda x, y, axis: np.mean(x - y, axis=axis),
            permutation_type='samples',
            n_resamples=np.inf,
        )
        assert found[key]['p'] == pytest.approx(wanted.pvalue, abs=1e-12)
        assert found[key]['difference'] == pytest.approx(wanted.statistic, abs=1e-12)
    first, other = scores
    assert found['BLEU_4']['difference'] == pytest.approx(other['BLEU_4'] - first['BLEU_4'])
    assert [row['p_holm'] for row in found.values()] == holm([row['p'] for row in found.values()])


def test_holm_runs_over_all_models_of_a_table(pair, tmp_path):
    third = write(tmp_path / 'c', rows_of(reports_of(2, share=0.1)))
    found = compare_predictions([*pair, third])
    assert len(found.rows) == 6 and found.names == ['a', 'b', 'c']
    assert [row['p_holm'] for row in found.rows] == holm([row['p'] for row in found.rows])


def test_the_order_of_studies_means_nothing(pair, tmp_path):
    turned = write(tmp_path / 'turned' / 'b', rows_of(reports_of(1))[::-1])
    assert compare_predictions([pair[0], turned]).rows == compare_predictions(pair).rows


def test_f1_is_compared_where_all_findings_are_known(pair, tmp_path):
    counts = [[1, 0, 1]] * 10
    known = [
        write(
            tmp_path / f'known{n}', rows_of(reports_of(n), findings=[*counts[:5], *[[n, 1, 0]] * 5])
        )
        for n in (0, 1)
    ]
    found = {row['score']: row for row in compare_predictions(known).rows}
    assert found['F1']['first'] == pytest.approx(2 * 5 / (2 * 5 + 5 + 5))
    assert found['F1']['other'] == pytest.approx(2 * 10 / (2 * 10 + 5 + 5))
    partly = write(tmp_path / 'partly', rows_of(reports_of(1), findings=[*counts[:9], None]))
    (partly / 'scores.json').unlink()
    lines = (partly / 'predictions.jsonl').read_text().replace(', "findings": null', '')
    rows = [json.loads(line) for line in lines.splitlines()]
    partly = write(tmp_path / 'partly2', rows)
    found = compare_predictions([known[0], partly])
    assert 'F1' not in {row['score'] for row in found.rows}
    assert any(note.startswith('F1 is left out') for note in found.notes)


def test_f1_with_severity_is_compared_beside_f1(tmp_path):
    "From counts of its own, which files of an earlier version lack."
    counts, graded = [[2, 1, 1]] * 10, [[1, 2, 2]] * 10
    keys = ('F1', 'F1_with_severity')
    both = [
        write(
            tmp_path / f'both{n}',
            rows_of(reports_of(n), findings=counts, findings_with_severity=graded[n:] + counts[:n]),
        )
        for n in (0, 1)
    ]
    found = {row['score']: row for row in compare_predictions(both, keys=keys).rows}
    assert found['F1']['first'] == found['F1']['other'] == pytest.approx(2 * 20 / 60)
    first, other = found['F1_with_severity']['first'], found['F1_with_severity']['other']
    assert (first, other) == pytest.approx((2 * 10 / 60, 2 * 11 / 60))
    older = write(tmp_path / 'older', rows_of(reports_of(1), findings=counts))
    found = compare_predictions([both[0], older], keys=keys)
    assert [row['score'] for row in found.rows] == ['F1']
    assert any('earlier version' in note for note in found.notes)


def test_the_search_may_differ_and_is_said(tmp_path):
    paths = [
        write(tmp_path / f'beams{n}', rows_of(reports_of(n)), beams=n, block_trigrams=False)
        for n in (1, 3)
    ]
    notes = compare_predictions(paths).notes
    assert 'beams differ (beams1: 1, beams3: 3)' in notes
    assert not any('block_trigrams' in note for note in notes)


def changed(rows, n, **fields):
    return [dict(row, **fields) if i == n else row for i, row in enumerate(rows)]


REFUSED = {
    'lacks 1 of the 10 studies': dict(rows=lambda rows: rows[:-1]),
    "lacks 1 of the 10 studies, 's3'": dict(rows=lambda rows: changed(rows, 3, id='other')),
    "has 1 studies more, 'new' first": dict(rows=lambda rows: [*rows, dict(rows[0], id='new')]),
    "reference of study 's4' is 'no .', not ": dict(
        rows=lambda rows: changed(changed(rows, 4, reference='no .'), 7, reference='x .')
    ),
    "truncation is 100, not 60": dict(recipe=dict(RECIPE, truncation=100)),
    "cleaning is 'corrected', not 'iu_xray'": dict(recipe=dict(RECIPE, cleaning='corrected')),
    "split is 'val', not 'test'": dict(recipe=dict(RECIPE, split='val')),
}


@pytest.mark.parametrize('message', REFUSED)
def test_what_differs_is_refused_by_its_name(message, pair, tmp_path):
    change = REFUSED[message]
    rows = change.get('rows', list)(rows_of(reports_of(5)))
    other = write(tmp_path / 'other', rows, recipe=change.get('recipe', RECIPE))
    with pytest.raises(UARError) as told:
        compare_predictions([pair[0], other])
    assert message in str(told.value) and str(other) in told.value.file
    assert 'uar evaluate' in told.value.remedy


@pytest.mark.parametrize('name', RECIPE)
@pytest.mark.parametrize('turned', [False, True])
def test_what_one_recipe_does_not_say_is_refused_both_ways_round(name, turned, pair, tmp_path):
    "The references of a file of unknown cleaning or length may be others."
    shorter = {key: value for key, value in RECIPE.items() if key != name}
    less = write(tmp_path / 'less', rows_of(reports_of(1)), recipe=shorter)
    paths = [less, pair[0]] if turned else [pair[0], less]
    with pytest.raises(UARError) as told:
        compare_predictions(paths)
    assert name in str(told.value) and told.value.field == 'recipe'
    assert str(paths[1]) in told.value.file and str(paths[0]) in str(told.value)


def test_recipes_that_lack_the_same_are_compared(tmp_path):
    shorter = {key: value for key, value in RECIPE.items() if key != 'truncation'}
    paths = [write(tmp_path / n, rows_of(reports_of(0)), recipe=shorter) for n in 'ab']
    assert compare_predictions(paths).rows


def test_without_its_recipe_a_file_is_not_compared(pair):
    (pair[1] / 'scores.json').unlink()
    assert len(read_predictions(pair[1])) == 10  # but it can be read
    with pytest.raises(UARError, match='no scores.json beside it'):
        compare_predictions(pair)


def test_predictions_that_were_changed_by_hand_are_found_out(pair):
    file = pair[1] / 'predictions.jsonl'
    file.write_text(file.read_text().replace('heart', 'HEART'))
    with pytest.raises(UARError, match='one of the two was changed'):
        compare_predictions(pair)


def test_a_score_that_is_undefined_is_left_out_and_said(tmp_path):
    rows = [dict(row, reference='a b .') for row in rows_of(reports_of(0))]
    paths = [write(tmp_path / name, rows) for name in 'ab']
    found = compare_predictions(paths, keys=('BLEU_1', 'BLEU_4', 'CIDEr'))
    assert {row['score'] for row in found.rows} == {'BLEU_1'}
    assert sum('is left out' in note for note in found.notes) == 2
    with pytest.raises(UARError, match='no score is left'):
        compare_predictions(paths, keys=('CIDEr',))


def test_every_score_can_be_asked_for(pair):
    keys = [key for key in SCORES if key not in ('METEOR', 'F1', 'F1_with_severity')]
    assert [row['score'] for row in compare_predictions(pair, keys=keys).rows] == keys


def test_a_raw_report_may_hold_any_character(tmp_path):
    odd = 'line\u2028one\r\ntwo\ttabs "quotes" \\ {} é 肺 \x85 end'
    rows = [dict(row, original=odd) for row in rows_of(reports_of(0))]
    there = read_predictions(write(tmp_path / 'odd', rows))
    assert there.originals == [odd] * 10
