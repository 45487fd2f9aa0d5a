"The numbers of a table from its files equal those of SciPy and of loops written here."

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy import stats
from table_files import STUDIES, counts_of, f1, keep_rows, made_up

from uar_nb.apps.table_results import (
    aligned_cells,
    best_constants,
    difference_cells,
    looked_cells,
    looked_kind_cells,
    make_table,
    novel_cells,
    read_results,
    score_cells,
    to_latex,
    to_markdown,
    tuning_cells,
    write_table,
)
from uar_nb.apps.table_rows import TABLES, find_table
from uar_nb.apps.table_runs import finding_counts, pack, shuffled_scores, unpack
from uar_nb.config import run_preset
from uar_nb.core import DISCLAIMER, UARError
from uar_nb.data.study import Finding
from uar_nb.scoring.metrics import OVER_STUDIES, score_reports
from uar_nb.scoring.naive_baselines import random_scores


@pytest.fixture
def made(tmp_path):
    keep_rows(tmp_path)
    return make_table(tmp_path, '1', 'made')


def values(row, score):
    "A score of each seed, anew."
    if score == 'F1':
        return np.array([f1(counts_of(row, seed)[0]) for seed in range(3)])
    return np.array([counts_of(row, seed)[1].mean() for seed in range(3)])


def test_means_and_deviations_over_seeds(made):
    for row in made['rows']:
        for score in ('F1', 'CIDEr'):
            found, expected = row['scores'][score], values(row['row'], score)
            assert found['mean'] == pytest.approx(expected.mean(), abs=1e-12)
            assert found['sd'] == pytest.approx(expected.std(ddof=1), abs=1e-12)
            low, high = stats.t.interval(
                0.95, 2, expected.mean(), expected.std(ddof=1) / np.sqrt(3)
            )
            assert (found['low'], found['high']) == pytest.approx((low, high), abs=1e-12)


def test_differences_over_seeds_are_those_of_a_paired_t_test(made):
    assert len(made['differences']) == 4  # two rows, two scores
    for found in made['differences']:
        ours, theirs = (values(row, found['score']) for row in (found['row'], 'uar'))
        test = stats.ttest_rel(ours, theirs)
        interval = test.confidence_interval(0.95)
        assert found['difference'] == pytest.approx((ours - theirs).mean(), abs=1e-12)
        assert (found['low'], found['high']) == pytest.approx(tuple(interval), abs=1e-9)
        assert found['p'] == pytest.approx(test.pvalue, abs=1e-9)
    # Holm by its definition: Table 1 compares ten systems with UAR, whether they have run or not
    assert len(made['pairs']) == 10
    for score in ('F1', 'CIDEr'):
        of_score = [found for found in made['differences'] if found['score'] == score]
        ranked = sorted(of_score, key=lambda found: found['p'])
        highest = 0.0
        for rank, found in enumerate(ranked):
            highest = max(highest, min(1.0, (10 - rank) * found['p']))
            assert found['p_holm'] == pytest.approx(highest, abs=1e-12)


def test_contrasts_are_the_only_pairs_that_are_compared(tmp_path):
    "Those of Table 2 whose rows are there, each its first row minus its second."
    keep_rows(tmp_path, rows=('base', 'a', 'd', 'e', 'memory'), table='2', d=dict(converged=False))
    found = make_table(tmp_path, '2', 'made')['differences']
    of_f1 = [one for one in found if one['score'] == 'F1']
    assert [(one['row'], one['other']) for one in of_f1] == [
        ('a', 'base'),
        ('e', 'a'),
        ('e', 'memory'),
    ]
    for one in of_f1:
        ours, theirs = (values(one[name], 'F1') for name in ('row', 'other'))
        assert one['difference'] == pytest.approx((ours - theirs).mean(), abs=1e-12)


PLANNED = 5  # contrasts of Table 2


@pytest.mark.parametrize('rows', [('a', 'base'), ('base', 'a', 'e'), ('base', 'a', 'e', 'memory')])
def test_holm_is_over_all_contrasts_also_where_some_are_missing(tmp_path, rows):
    "Each p beside the definition with five tests, of which the missing ones have p = 1."
    assert len(find_table('2').contrasts) == PLANNED
    keep_rows(tmp_path, rows=rows, table='2')
    made = make_table(tmp_path, '2', 'made')
    of_f1 = [one for one in made['differences'] if one['score'] == 'F1']
    assert len(of_f1) == len(rows) - 1
    tests = {}
    for one in of_f1:
        ours, theirs = (values(one[name], 'F1') for name in ('row', 'other'))
        tests[one['row'], one['other']] = stats.ttest_rel(ours, theirs).pvalue
    highest = 0.0
    for rank, (pair, p) in enumerate(sorted(tests.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (PLANNED - rank) * p))
        [found] = [one for one in of_f1 if (one['row'], one['other']) == pair]
        assert found['p_holm'] == pytest.approx(highest, abs=1e-9)


def test_contrasts_that_are_missing_are_said_with_the_reason(tmp_path):
    keep_rows(tmp_path, rows=('base', 'a', 'e', 'memory'), table='2', memory=dict(converged=False))
    (tmp_path / '2-made-base-2.json').unlink()
    [note] = [n for n in make_table(tmp_path, '2', 'made')['notes'] if n.startswith('incomplete')]
    memory = find_table('2').row('memory').label
    assert note.partition('; in Holm')[0] == (
        'incomplete: (a) − Base (2 of 3 seeds); (e) − (a) with the triplet loss (not run); '
        f'UAR − (e) (not run); (e) − {memory} (not converged)'
    )
    every = {row.name: row for row in find_table('2').rows}
    keep_rows(tmp_path, rows=every, table='2')
    assert not any('incomplete' in n for n in make_table(tmp_path, '2', 'made')['notes'])


def test_a_contrast_of_one_seed_has_no_p_and_counts_as_one(tmp_path):
    keep_rows(tmp_path, rows=('base', 'a', 'e'), table='2')
    for seed in (1, 2):
        (tmp_path / f'2-made-base-{seed}.json').unlink()
    found = make_table(tmp_path, '2', 'made')['differences']
    alone, whole = (one for one in found if one['score'] == 'F1')
    assert (alone['row'], alone['seeds']) == ('a', 1)
    assert np.isnan(alone['p']) and np.isnan(alone['p_holm'])
    assert whole['p_holm'] == pytest.approx(min(1, PLANNED * whole['p']), abs=1e-12)


@pytest.mark.parametrize(
    'table', [table.name for table in TABLES.values() if not table.contrasts and table.name != '1']
)
def test_a_table_without_contrasts_is_exploratory(tmp_path, table):
    "Intervals as in any other table, but no p; said in a note."
    about = find_table(table)
    keep_rows(tmp_path, rows=[row.name for row in about.rows], table=table)
    made = make_table(tmp_path, table, 'made')
    assert made['differences'] and all(
        one['p'] is None and one['p_holm'] is None and one['low'] < one['high']
        for one in made['differences']
    )
    assert 'exploratory: intervals, no test' in made['notes']
    head, lines = difference_cells(made)
    assert not {'p', 'p (Holm)'} & set(head) and {len(line) for line in lines} == {len(head)}


def test_table_1_of_the_paper_is_tested(made):
    assert {'p', 'p (Holm)'} <= set(difference_cells(made)[0])
    assert not any('exploratory' in note for note in made['notes'])


def test_what_others_go_on_from_is_no_competitor(tmp_path):
    "In `masks` all rows but `first` go on from it: it has no line of its own."
    rows = [row.name for row in find_table('masks').rows]
    assert 'first' in rows
    keep_rows(tmp_path, rows=rows, table='masks')
    found = make_table(tmp_path, 'masks', 'made')
    assert [row['row'] for row in found['rows']] == rows
    compared = {(one['row'], one['other']) for one in found['differences']}
    assert compared and all('first' not in pair for pair in compared)


def test_differences_over_studies_resample_pairs_with_all_seeds(made):
    rng = np.random.default_rng(5)
    for found in made['differences']:
        draws = []
        for _ in range(4000):
            chosen = rng.integers(0, STUDIES, STUDIES)
            scores = []
            for row in (found['row'], 'uar'):
                parts = [counts_of(row, seed) for seed in range(3)]
                if found['score'] == 'F1':
                    scores.append(f1(np.concatenate([counts[chosen] for counts, _ in parts])))
                else:
                    scores.append(np.mean([ciders[chosen].mean() for _, ciders in parts]))
            draws.append(scores[0] - scores[1])
        low, high = np.quantile(draws, [0.025, 0.975])
        width = high - low
        assert found['studies']['low'] == pytest.approx(low, abs=0.08 * width)
        assert found['studies']['high'] == pytest.approx(high, abs=0.08 * width)


def test_the_detectable_difference_has_80_percent_power(made):
    "Simulated: three normal differences with this mean and this deviation are found so often."
    found = made['differences'][0]
    sd = (found['high'] - found['low']) / 2 * np.sqrt(3) / stats.t.ppf(0.975, 2)
    rng = np.random.default_rng(0)
    drawn = rng.normal(found['detectable'], sd, (40_000, 3))
    power = (stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05).mean()
    assert power == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize('table', ['1', '3', 'cra'])
def test_one_seed_of_each_row_has_no_interval_and_says_what_the_studies_show(tmp_path, table):
    rows = [row.name for row in find_table(table).rows]
    rows = [*rows[:2], find_table(table).reference]
    keep_rows(tmp_path, rows=rows, seeds=1, table=table)
    made = make_table(tmp_path, table, 'made')
    assert 'one seed: no interval over seeds' in made['notes']
    for score in ('F1', 'CIDEr'):
        of_score = [one for one in made['differences'] if one['score'] == score]
        assert len(of_score) == 2 and all(np.isnan(one['low']) for one in of_score)
        shown = [one['studies_detectable'] for one in of_score]
        [note] = [n for n in made['notes'] if n.startswith(f'a difference in {score} ')]
        assert f'of {min(shown):.3f} to {max(shown):.3f} by these studies' in note
        assert 'by these seeds' not in note
    head, lines = difference_cells(made)
    assert {line[head.index('95 % over seeds')] for line in lines} == {'–'}
    assert 'nan' not in to_markdown(made)


@pytest.mark.parametrize('table', TABLES)
def test_under_every_table_stands_what_an_interval_leaves_out(tmp_path, table):
    "Training again is not in it: in all three files that people read."
    keep_rows(tmp_path, rows=[row.name for row in find_table(table).rows[:1]], table=table)
    _, markdown, latex, page = write_table(make_table(tmp_path, table, 'made'), tmp_path)
    assert 'another build of PyTorch' in OVER_STUDIES
    for file in (markdown, latex, page):
        assert OVER_STUDIES in file.read_text('utf-8')


def test_the_rows_of_one_seed_are_named_where_others_have_more(tmp_path):
    keep_rows(tmp_path)
    for seed in (1, 2):
        (tmp_path / f'1-made-base-{seed}.json').unlink()
    notes = make_table(tmp_path, '1', 'made')['notes']
    assert 'one seed: no interval over seeds (Base)' in notes
    [note] = [n for n in notes if n.startswith('a difference in F1 ')]
    assert 'by these seeds' in note and 'by these studies' in note


def test_three_seeds_of_each_row_are_no_single_ones(made):
    assert not any('one seed' in note for note in made['notes'])


@pytest.mark.parametrize(
    'changes, looks',
    [
        (dict(shuffled=dict(F1=0.05)), True),
        (dict(shuffled=dict(F1=0.99)), False),  # its reports do as well for other patients
    ],
)
def test_a_row_that_does_not_look_is_said_so(tmp_path, changes, looks):
    keep_rows(tmp_path, base=changes)
    keep_baselines(tmp_path, nearest=0.1)
    made = make_table(tmp_path, '1', 'made')
    assert made['rows'][0]['looks'] is looks
    assert any('does not look' in note for note in made['notes']) is not looks


def test_every_line_says_how_many_seeds_it_is_of(tmp_path):
    "Base has two of the three seeds: so has its difference from UAR."
    keep_rows(tmp_path)
    (tmp_path / '1-made-base-1.json').unlink()
    made = make_table(tmp_path, '1', 'made')
    seeds = {'Base': '2', 'Show and Tell': '3', 'UAR, our choices': '3'}
    for cells in (score_cells, novel_cells):
        head, lines = cells(made)
        assert {line[0]: line[head.index('seeds')] for line in lines} == seeds
    head, lines = difference_cells(made)
    told = [(line[0].partition(' − ')[0], line[head.index('seeds')]) for line in lines]
    assert told == [('Base', '2'), ('Show and Tell', '3')] * 2
    assert all(len(line) == len(head) for line in lines)


def test_one_seed_that_does_not_look_is_enough(tmp_path):
    keep_rows(tmp_path)
    file = tmp_path / '1-made-base-2.json'
    file.write_text(json.dumps(made_up('base', 2, shuffled=dict(F1=0.999))))
    assert make_table(tmp_path, '1', 'made')['rows'][0]['looks'] is False


def keep_baselines(folder, **f1):
    "The file of naive baselines with an F1 each."
    rows = {name: dict(scores=dict(F1=value)) for name, value in f1.items()}
    (folder / 'baselines-made.json').write_text(json.dumps(dict(rows=rows)))


def test_a_baseline_that_is_better_is_seen(tmp_path):
    keep_rows(tmp_path)
    keep_baselines(tmp_path, ceiling=1.0, nearest=0.1)  # the ceiling knows the truth
    made = make_table(tmp_path, '1', 'made')
    assert made['best_naive_F1'] == 0.1 and all(row['looks'] is True for row in made['rows'])
    keep_baselines(tmp_path, nearest=0.97)
    assert all(row['looks'] is False for row in make_table(tmp_path, '1', 'made')['rows'])


def test_random_reports_are_said_to_be_a_mean_of_draws_with_their_deviation(tmp_path):
    keep_rows(tmp_path)
    f1 = [0.05, 0.07, 0.09, 0.02]

    def score(answers):
        return [dict(F1=value, CIDEr=None) for value, _ in zip(f1, answers, strict=True)]

    random = random_scores(['a b .', 'c .'], 3, score, draws=4)
    plain = dict(scores=dict(F1=0.1, CIDEr=0.2))
    rows = {'most frequent': plain, 'random': random}
    (tmp_path / 'baselines-made.json').write_text(json.dumps(dict(rows=rows)))
    head, lines = score_cells(make_table(tmp_path, '1', 'made'))
    found = {line[0]: dict(zip(head, line, strict=True)) for line in lines}
    expected = f'{np.mean(f1):.3f} ± {np.std(f1, ddof=1):.3f}'
    assert found['random, mean of 4']['F1'] == expected
    assert found['random, mean of 4']['CIDEr'] == '–'
    assert found['most frequent']['F1'] == '0.100' and 'random' not in found


@pytest.mark.parametrize('known', [{}, dict(ceiling=1.0)])
def test_without_naive_baselines_no_row_is_said_to_look(tmp_path, known):
    "No file, or none in it that sees no image: what must be beaten is not known."
    keep_rows(tmp_path, base=dict(shuffled=dict(F1=0.99)))
    if known:
        keep_baselines(tmp_path, **known)
    made = make_table(tmp_path, '1', 'made')
    assert made['best_naive_F1'] is None
    looks = {row['row']: row['looks'] for row in made['rows']}
    # `base` does as well for other patients, which needs no baseline
    assert looks == dict(base=False, show_tell=None, uar=None)
    [note] = [note for note in made['notes'] if note.startswith('no naive baselines: run ')]
    assert '`uar table 1`' in note
    keep_baselines(tmp_path, nearest=0.1)
    assert not any('no naive' in note for note in make_table(tmp_path, '1', 'made')['notes'])


# what a file says of its stages: the last one alone has the mask on
TWO_STAGES = dict(
    train=dict(stages=[dict(name='cool', mask_on=False), dict(name='stage2', mask_on=True)])
)


def test_the_chosen_stage_is_told_and_a_mask_counts_only_where_it_was_on(tmp_path):
    "Two of three seeds chose the stage with the mask: the number of the third is not of its mask."
    keep_rows(tmp_path)
    strengths = [2.0, 4.0, 90.0]
    for seed, stage in enumerate(['stage2', 'stage2', 'cool']):
        mask = dict(mask_std_logits=strengths[seed])
        aligned = dict(alignment=dict(row=0.5))
        found = made_up('uar', seed, stage=stage, mask=mask, config=TWO_STAGES, aligned=aligned)
        (tmp_path / f'1-made-uar-{seed}.json').write_text(json.dumps(found))
    made = make_table(tmp_path, '1', 'made')
    head, lines = score_cells(made)
    stages = {line[0]: line[head.index('stage')] for line in lines}
    assert stages['UAR, our choices'] == 'stage2 ×2, cool ×1' and stages['Base'] == 'cool ×3'
    head, [line] = aligned_cells(made)
    cells = dict(zip(head, line, strict=True))
    assert cells['mask, in logits'] == f'{3:.3f} ± {np.std([2, 4], ddof=1):.3f} (2 of 3)'
    assert cells['alignment, row'] == '0.500 ± 0.000' and cells['seeds'] == '3'
    early = [note for note in made['notes'] if 'before the mask' in note]
    assert early == [
        'UAR, our choices: validation chose a checkpoint before the mask in 1 of 3 seeds'
    ]
    assert r'$\times$2' in to_latex(made)


def test_a_row_none_of_whose_seeds_chose_the_mask_has_no_number_of_it(tmp_path):
    mask = dict(mask=dict(mask_std_logits=2.0), config=TWO_STAGES, stage='cool')
    keep_rows(tmp_path, uar=mask)
    made = make_table(tmp_path, '1', 'made')
    assert aligned_cells(made)[1] == []
    assert any(note.endswith('before the mask in 3 of 3 seeds') for note in made['notes'])


def test_what_only_some_rows_have_stands_in_a_part_of_its_own(tmp_path):
    "Numbers of aligned places and of the mask: mean and sd over seeds, rows without them left out."
    values = [0.5, 0.6, 0.8]
    for seed, value in enumerate(values):
        pointing = dict(pointing=value, shuffled=dict(pointing=0.2), fixed={'kind': 0.7})
        aligned = dict(pointing=pointing, alignment=dict(row=value / 2))
        masked = dict(mask=dict(mask_std_logits=3.0), stage='stage2', config=TWO_STAGES)
        keep_rows(tmp_path, ('uar',), 3)
        for row in ('base', 'uar'):
            more = dict(aligned=aligned, **masked) if row == 'uar' else {}
            found = made_up(row, seed, **more)
            (tmp_path / f'2-made-{row}-{seed}.json').write_text(json.dumps(found))
    made = make_table(tmp_path, '2', 'made')
    head, lines = aligned_cells(made)
    assert [line[0] for line in lines] == ['UAR']
    cells = dict(zip(head, lines[0], strict=True))
    expected = f'{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}'
    assert cells['points right'] == expected and cells['mask, in logits'] == '3.000 ± 0.000'
    assert cells['a fixed place by kind'] == '0.700 ± 0.000'
    assert 'left out' not in cells and 'recall@5' not in cells
    assert '## Alignment' in to_markdown(made)
    plain = make_table(tmp_path, '1', 'made')
    assert aligned_cells(plain)[1] == [] and '## Alignment' not in to_markdown(plain)


def test_what_rows_do_when_shown_other_images(tmp_path):
    for seed, value in enumerate([0.5, 0.7]):
        conditions = {'other findings': dict(change=[1.0, 1, 1], right=[value, 0, 1])}
        looks = dict(verdict='looks', conditions=conditions)
        for row, more in (('base', {}), ('uar', dict(looks=looks))):
            found = made_up(row, seed, **more)
            (tmp_path / f'1-made-{row}-{seed}.json').write_text(json.dumps(found))
    control = dict(verdict='does not look', conditions={'other findings': dict(change=[0.0, 0, 0])})
    baselines = dict(rows={}, looks=dict(constant=control))
    (tmp_path / 'baselines-made.json').write_text(json.dumps(baselines))
    head, lines = looked_cells(make_table(tmp_path, '1', 'made'))
    rows = [dict(zip(head, line, strict=True)) for line in lines]
    assert [row[''] for row in rows] == ['UAR, our choices', 'constant writer']
    expected = f'{0.6:.3f} ± {np.std([0.5, 0.7], ddof=1):.3f}'
    assert rows[0]['right'] == expected and rows[0]['verdicts'] == 'looks: 2'
    assert (rows[0]['seeds'], rows[1]['seeds']) == ('2', '–')
    assert rows[1]['another patient: changed'] == '0.000' and rows[1]['right'] == '–'
    assert 'blank: changed' not in head


def test_which_findings_are_followed_when_they_are_taken_away(tmp_path):
    "Over the seeds that know it: runs of an earlier version did not count by kind."
    shares = [None, 0.5, 0.75]
    for seed, share in enumerate(shares):
        looks = dict(verdict='looks', conditions={})
        if share is not None:
            kinds = dict(effusion=dict(expected=8, right=share))
            looks |= dict(kinds=kinds | dict(nodule=dict(expected=4, right=0.0)))
        for row, more in (('base', {}), ('uar', dict(looks=looks))):
            found = made_up(row, seed, **more)
            (tmp_path / f'1-made-{row}-{seed}.json').write_text(json.dumps(found))
    control = dict(verdict='does not look', conditions={}, kinds={})
    baselines = dict(rows={}, looks=dict(constant=control))
    (tmp_path / 'baselines-made.json').write_text(json.dumps(baselines))
    made = make_table(tmp_path, '1', 'made')
    head, lines = looked_kind_cells(made)
    assert head == ['', 'effusion (8)', 'nodule (4)', 'seeds']
    expected = f'{np.mean(shares[1:]):.3f} ± {np.std(shares[1:], ddof=1):.3f}'
    assert lines[0][1:] == [expected, '0.000 ± 0.000', '2'] and len(lines) == 2
    assert lines[1] == ['constant writer', '–', '–', '–']
    assert 'effusion (8)' in to_markdown(made)
    assert looked_kind_cells(make_table(tmp_path, '1', 'made') | dict(rows=[]))[1] == []


def test_what_has_not_converged_is_compared_with_nothing(tmp_path):
    keep_rows(tmp_path, base=dict(converged=False))
    made = make_table(tmp_path, '1', 'made')
    assert {found['row'] for found in made['differences']} == {'show_tell'}
    assert 'Base (not converged)' in to_markdown(made)
    keep_rows(tmp_path, uar=dict(converged=False))  # nothing to compare with
    assert make_table(tmp_path, '1', 'made')['differences'] == []


def test_a_row_that_trained_much_longer_is_said_so(tmp_path):
    keep_rows(tmp_path)
    usual = json.loads((tmp_path / '1-made-uar-0.json').read_text())['steps']
    for steps, told in ((3 * usual, False), (3 * usual + 1, True)):
        file = tmp_path / '1-made-base-1.json'
        file.write_text(json.dumps(made_up('base', 1, steps=steps)))
        notes = make_table(tmp_path, '1', 'made')['notes']
        longer = [note for note in notes if note.startswith('trained for more than three times')]
        assert [note.endswith('UAR, our choices: Base') for note in longer] == [True] * told


def test_scores_at_equal_seconds(made):
    "UAR took 75 seconds: the others had come to step 75, which their validation of step 50 tells."
    assert made['equal_seconds'] == pytest.approx(75)
    reached = {row['row']: row['at_equal_seconds'] for row in made['rows']}
    assert reached['uar'] == pytest.approx(0.8)
    assert reached['base'] == pytest.approx(np.mean([0.2, 0.3, 0.4]))


def test_a_loss_that_is_a_sum_over_words_is_marked(tmp_path):
    "By the run's own settings: those of UAR as it is printed sum, ours take the mean."
    configs = {
        name: dict(config=dict(model=dict(ce=run_preset('phantom', preset).model.ce)))
        for name, preset in (('uar-literal', 'literal'), ('uar', 'uar'))
    }
    keep_rows(tmp_path, rows=('base', *configs), **configs)
    _, lines = tuning_cells(make_table(tmp_path, '1', 'made'))
    assert [line[0] for line in lines] == [
        'Base *',
        'Base',
        'UAR, as printed (sum over words) *',
        'UAR, as printed (sum over words)',
        'UAR, our choices *',
        'UAR, our choices',
    ]


class Cells(HTMLParser):
    "Texts of a page: of the cells of each row, and of all else."

    def __init__(self):
        super().__init__()
        self.rows, self.texts, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == 'tr':
            self.rows.append([])
        elif tag in ('td', 'th'):
            self.rows[-1].append('')

    def handle_data(self, text):
        self.texts.append(text)
        if self.tags[-1:] in (['td'], ['th']):
            self.rows[-1][-1] += text


def test_the_page_holds_what_the_markdown_holds(tmp_path):
    "Row by row of every part, each note, and the warning that it is no medical device."
    looks = dict(verdict='looks', conditions={'blank': dict(change=[0.375, 0, 1])})
    aligned = dict(alignment=dict(row=0.625))
    keep_rows(tmp_path, uar=dict(looks=looks, aligned=aligned), base=dict(converged=False))
    keep_baselines(tmp_path, nearest=0.123, ceiling=1.0)
    made = make_table(tmp_path, '1', 'made')
    files = {file.suffix: file for file in write_table(made, tmp_path)}
    assert list(files) == ['.json', '.md', '.tex', '.html']
    assert files['.html'].name == 'table_1_made.html'
    markdown, html = (files[ending].read_text('utf-8') for ending in ('.md', '.html'))
    page = Cells()
    page.feed(html)
    lines = [line for line in markdown.splitlines() if line.startswith('| ') and '---' not in line]
    rows = [[cell.strip() for cell in line[1:-1].split('|')] for line in lines]
    assert [[cell.strip() for cell in row] for row in page.rows] == rows and len(rows) > 20
    notes = [line[2:] for line in markdown.splitlines() if line.startswith('- ')]
    assert set(notes) <= set(page.texts) and len(notes) == len(made['notes'])
    numbers = re.findall(r'\d+\.\d+', markdown)
    told = ' '.join(page.texts)
    assert len(numbers) > 100 and all(number in told for number in numbers)
    assert DISCLAIMER in page.texts
    assert page.tags.count('img') == 1  # F1


def test_a_page_of_one_seed_and_without_f1_can_be_written(tmp_path):
    scores = {
        name: dict(scores=dict(CIDEr=0.5), counts=pack(dict(CIDEr=np.full(12, 0.5))))
        for name in ('base', 'uar')
    }
    keep_rows(tmp_path, rows=('base', 'uar'), seeds=1, **scores)
    files = write_table(make_table(tmp_path, '1', 'made'), tmp_path)
    assert '<img' not in files[-1].read_text('utf-8')


def test_runs_on_other_references_are_not_mixed(tmp_path):
    keep_rows(tmp_path, uar=dict(references='other'))
    with pytest.raises(UARError, match='different test studies'):
        read_results(tmp_path, '1', 'made')


def test_numbers_come_back_from_a_packed_text():
    rng = np.random.default_rng(1)
    arrays = {
        'F1': rng.integers(0, 9, (400, 3)),
        'METEOR': rng.random((400, 23)) * 40,
        'CIDEr': rng.random(400) * 10,
    }
    found = unpack(pack(arrays))
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].shape == array.shape
        assert np.abs(found[name] - array).max() <= 5.1e-6


class Data:
    "What baselines ask of validation studies."

    def __init__(self, references, findings):
        self.references = references
        self.studies = [type('Study', (), dict(findings=f)) for f in findings]

    def __len__(self):
        return len(self.references)


REPORTS = [
    'the heart is normal . the lungs are clear .',
    'there is a right pneumothorax . the heart is normal .',
    'there is moderate cardiomegaly . the lungs are clear .',
    'the lungs are clear . no effusion is seen .',
]


def test_constants_are_the_best_of_all_training_reports():
    references = [REPORTS[1], REPORTS[2], REPORTS[0], REPORTS[2]]
    findings = [
        (Finding('pneumothorax', 'right'),),
        (Finding('cardiomegaly'),),
        (),
        (Finding('cardiomegaly'),),
    ]
    data = Data(references, findings)
    best = best_constants(REPORTS, data)
    for by in ('BLEU_4', 'CIDEr'):
        scores = {
            report: score_reports([report] * 4, references, metrics=('BLEU', 'CIDEr'))[by]
            for report in REPORTS
        }
        assert scores[best[by]] == pytest.approx(max(scores.values()), abs=1e-9)
    assert best['F1'] == REPORTS[2]


def test_findings_of_kinds_ignore_side_and_zone_and_unknown_studies_count_nothing():
    study = type('Study', (), dict(findings=(Finding('pneumothorax', 'left'),)))
    unknown = type('Study', (), dict(findings=None))
    report = REPORTS[1]
    assert finding_counts([report], [study]).tolist() == [[0, 1, 1]]
    assert finding_counts([report], [study], 'kinds').tolist() == [[1, 0, 0]]
    assert finding_counts([report] * 2, [study, unknown], 'kinds').tolist() == [[1, 0, 0], [0] * 3]
    assert finding_counts([report], [unknown]) is None
    assert finding_counts([report], [study], 'none') is None


def test_shuffled_reports_keep_nothing_of_their_patients():
    findings = [(Finding('pneumothorax', 'right'),), (Finding('cardiomegaly'),)] * 3
    data = Data([REPORTS[1], REPORTS[2]] * 3, findings)
    own = shuffled_scores(data.references, data)
    assert own['F1'] < 0.9 and own['std']['F1'] > 0
    assert 'F1' not in shuffled_scores(data.references, data, 'none')


@pytest.mark.parametrize('rate', [1e-3, 2e-3])
def test_the_edge_of_the_rates_is_told(tmp_path, rate):
    "Where the largest rate that was tried is the best, a larger one may be better."
    tuned = made_up('base', 0)['tuned'] | dict(rate=rate)
    keep_rows(tmp_path, ('base',), base=dict(tuned=tuned))
    told = [note for note in make_table(tmp_path, '1', 'made')['notes'] if 'largest' in note]
    assert bool(told) == (rate == 2e-3) and all(note.startswith('Base: ') for note in told)
