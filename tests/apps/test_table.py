"""A table of two rows and two seeds at toy size: killed in the middle and resumed, a row that
fails, nothing trained twice; what its options refuse."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from forge import POSIX
from uar_nb.apps.table_results import (
    latex_text,
    looks_controls,
    make_table,
    score_cells,
    to_latex,
    tuning_cells,
)
from uar_nb.apps.table_rows import (
    RECIPES,
    TABLES,
    continued_config,
    find_table,
    row_config,
    run_hash,
    trial_choices,
    trial_config,
)
from uar_nb.apps.table_runs import (
    Bench,
    Job,
    is_done,
    list_jobs,
    measure_again,
    prepare_seed,
    run_job,
    tuned_choice,
)
from uar_nb.checkpoint import load_checkpoint
from uar_nb.config import leaves
from uar_nb.core import UARError, atomic_write, read_json

ROWS = 'show_tell,base'
JOBS = 2 * (2 + 2)  # two rows: two trials and two seeds each
COMMAND = ['table', '1', '--on', 'toy', '--rows', ROWS, '--seeds', '2', '--jobs', '2', '--out', 'o']


def table(cwd, *more):
    "The command as a process of its own."
    return subprocess.Popen(
        [sys.executable, '-m', 'uar_nb', *COMMAND, *more],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ, OMP_NUM_THREADS='1'),
    )


def row_files(cwd):
    return sorted(path.name for path in (cwd / 'o' / 'rows').glob('1-toy-*.json'))


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'nothing happened'
        time.sleep(0.1)


def children_of(cwd):
    "Processes of this table that still run."
    found = []
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            words = path.read_bytes().split(b'\0')
        except OSError:
            continue
        if any(str(cwd).encode() in word and b'parent' in word for word in words):
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow  # 2 min: eight small trainings in processes of their own
@pytest.mark.skipif(not POSIX, reason='needs SIGKILL and /proc')
def test_a_table_that_is_killed_goes_on_and_trains_nothing_twice(tmp_path):
    first = table(tmp_path)
    wait_for(lambda: len(row_files(tmp_path)) >= 3)
    first.kill()  # no time to say goodbye: its children must notice
    first.communicate()
    wait_for(lambda: not children_of(tmp_path), 60)
    kept = {name: (tmp_path / 'o/rows' / name).stat().st_mtime_ns for name in row_files(tmp_path)}
    assert 3 <= len(kept) < JOBS

    second = table(tmp_path)
    wait_for(lambda: len(row_files(tmp_path)) >= min(len(kept) + 2, JOBS))
    second.send_signal(signal.SIGINT)
    _, err = second.communicate(timeout=200)
    if second.returncode:  # it may have ended before
        assert second.returncode == 130 and 'the same command goes on' in err
    assert not children_of(tmp_path)

    third = table(tmp_path)
    out, err = third.communicate(timeout=500)
    assert third.returncode == 0, err
    assert len(row_files(tmp_path)) == JOBS
    for name, written in kept.items():
        assert (tmp_path / 'o/rows' / name).stat().st_mtime_ns == written, name
    assert 'Show and Tell' in out and 'constant by F1' in out
    again = table(tmp_path)
    out, _ = again.communicate(timeout=200)
    assert again.returncode == 0 and 'preparing' not in out and 'done in' not in out


@pytest.mark.slow  # 1 min: two writers on thirty phantoms and their changes
def test_controls_of_looks_come_out_as_they_must(tmp_path):
    "On 30 phantoms: the writer of one report does not look, the one that knows the image looks."
    bench = Bench(tmp_path, tmp_path / 'rows', replace(RECIPES['toy'], test=30))
    studies, dvae = bench.prepare()
    about = find_table('1')
    config = row_config(about, about.row('base'), bench.recipe, (1e-3, 0.1))
    data = prepare_seed(config, bench, studies, dvae).data
    found = looks_controls(data, bench.recipe)
    assert found['constant']['verdict'] == 'does not look'
    assert found['description']['verdict'] == 'looks'
    for name, share in (('constant', 0), ('description', 1)):
        assert {one['right'] for one in found[name]['kinds'].values()} == {share}
    assert found['description']['conditions']['other findings']['right'] == [1, 1, 1]
    assert found['constant']['conditions']['blank']['change'][0] == 0


@pytest.mark.slow  # 1 min: a table with a row that cannot be trained
@pytest.mark.skipif(not POSIX, reason='needs a process that ends by itself')
def test_a_row_that_fails_is_named_and_the_rest_goes_on(tmp_path):
    run = tmp_path / 'o' / 'toy' / 'runs' / '1-toy-base-1'
    (run / 'state').mkdir(parents=True)  # stands in the way of this seed
    out, err = (done := table(tmp_path)).communicate(timeout=500)
    assert done.returncode == 1
    assert err.strip().startswith('1-toy-base-1: error: ')
    assert len(err.strip().splitlines()) == 1 and 'Traceback' not in out + err
    assert len(row_files(tmp_path)) == JOBS - 1
    made = json.loads((tmp_path / 'o' / 'table_1_toy.json').read_text())
    assert {row['row']: row['seeds'] for row in made['rows']} == {'base': [0], 'show_tell': [0, 1]}


@pytest.mark.parametrize(
    'wrong, told',
    [
        (['7'], 'known: 1, 2, 3, 4'),
        (['1', '--rows', 'base,nobody'], 'known: base'),
        (['1', '--on', 'no/where'], 'neither a data set'),
        (['1', '--on', 'iu-phantom'], '--reports'),
        (['1', '--on', 'toy', '--keep', 'file', '--rows', 'base'], 'file'),
    ],
)
def test_nonsense_gives_one_line(forge, tmp_path, wrong, told):
    (tmp_path / 'file').write_text('in the way')
    done = forge.run(['table', *wrong, '--out', 'new'], cwd=tmp_path)
    assert done.status == 2 and told in done.err
    assert len(done.err.strip().splitlines()) == 1 and done.err.startswith('error: ')


# ---- rows and recipes


@pytest.mark.parametrize('name', TABLES)
@pytest.mark.parametrize('data', RECIPES)
def test_rows_of_a_table_differ_in_the_model_alone(name, data):
    "Data, search, length of the main stage, cooling and validation are the same for every row."
    about, recipe = find_table(name), RECIPES[data]
    shared = set()
    for row in about.rows:
        if row.continues:
            continue
        config = row_config(about, row, recipe, (1e-3, 0.1), seed=3)
        main = config.train.stages[row.main]
        cool = config.train.stages[row.main + 1]
        settings = config.train.to_dict()
        settings.pop('stages')
        shared.add(json.dumps([config.data.to_dict(), settings], sort_keys=True))
        assert (main.steps, main.schedule, main.lr) == (recipe.steps, 'constant', 1e-3)
        assert (cool.name, cool.steps, cool.schedule) == ('cool', recipe.cool, 'cosine')
        assert cool.loss_weights == main.loss_weights and cool.mask_on == main.mask_on
    assert len(shared) == 1


@pytest.mark.parametrize('name', ['masks', 'ceiling'])
def test_rows_that_go_on_are_one_stage_of_equal_length(name):
    about, recipe = find_table(name), RECIPES['phantom']
    first, shared = about.row('first'), set()
    rows = [row for row in about.rows if row.continues]
    assert {row.continues for row in rows} == {'first'} and len(rows) == len(about.rows) - 1
    before = row_config(about, first, recipe, (1e-3, 0.3), seed=3)
    for row in rows:
        tries = trial_choices(recipe, row)
        assert len(tries) == len(set(tries)) == 6
        config = continued_config(about, row, recipe, tries[1], 0.3, seed=3)
        (stage,) = config.train.stages
        assert (stage.lr, stage.mask_lr) == tries[1] and stage.steps == recipe.refine
        assert stage.mask_on == (config.model.mask != 'none') and stage.lambdas[:2] == (1, 1)
        ours, theirs = config.model.to_dict(), before.model.to_dict()
        differ = {field for field in ours if ours[field] != theirs[field]}
        assert all(field == 'k' or field.startswith('mask') for field in differ), row.name
        shared.add(json.dumps([config.data.to_dict(), config.train.seed, config.train.patience]))
        trials = [trial_config(about, row, recipe, n, dropout=0.3) for n in range(6)]
        assert {(t.train.stages[0].lr, t.train.stages[0].mask_lr) for t in trials} == set(tries)
        assert {t.train.stages[0].steps for t in trials} == {recipe.refine}
        assert {t.model.dropout for t in trials} == {0.3}
    assert len(shared) == 1


def test_a_row_goes_on_from_the_weights_of_its_first_stage(tmp_path):
    "With a learning rate of 0 nothing but the mask and the running mean may be another."
    still = dict(refine_rates=((0.0, 1e-3),), plain_rates=(0.0,))
    bench = Bench(tmp_path, tmp_path / 'rows', replace(RECIPES['toy'], **still))
    bench.prepare()
    jobs = list_jobs('ceiling', bench, ('no-mask', 'boxes'), 1)
    assert [job.row for job in jobs if job.trial is None] == ['first', 'no-mask', 'boxes']
    for job in jobs:
        assert not is_done(job, bench)
        run_job(job, bench)
        assert is_done(job, bench)
    first, plain, told = (read_json(job.file(bench)) for job in jobs if job.trial is None)
    run = tmp_path / 'runs' / 'ceiling-toy-first-0'
    last = first['config']['train']['stages'][-1]['name']
    ended = '' if first['stage'] == last else f'_{first["stage"]}'
    before = load_checkpoint(run / f'checkpoint{ended}').model.state_dict()
    assert first['looks']['studies'] == 6 and set(first['looks']['conditions']) >= {
        'redrawn',
        'other findings',
        'without',
        'blank',
    }
    for found in first['looks']['kinds'].values():
        assert found['expected'] > 0 and 0 <= found['right'] <= 1
    for name, found in (('no-mask', plain), ('boxes', told)):
        after = load_checkpoint(tmp_path / 'runs' / f'ceiling-toy-{name}-0/checkpoint').model
        for key, value in after.state_dict().items():
            if not key.startswith('center.') and '.mask_' not in key:
                assert torch.equal(value, before[key]), key
        assert found['converged'] == first['converged'] and found['hash'] != first['hash']
    assert set(plain['tuned']) == {'rate', 'mask_rate', 'trials'}
    assert set(told['mask']) == {'mask_std_logits', 'mask_mean'} and 'mask' not in plain
    for found in (first, plain, told):  # rows of a screening
        assert {'F1', 'CIDEr'} <= set(found['inside_boxes']['scores']) & set(found['val']['scores'])
        assert 1 <= found['basis']['rows_read'] <= found['basis']['size']
    made = make_table(bench.keep, 'ceiling', 'toy')
    assert [row['row'] for row in made['rows']] == ['first', 'no-mask', 'boxes']
    pairs = {(d['row'], d['other']) for d in made['differences']}
    assert pairs == ({('boxes', 'no-mask')} if first['converged'] else set())
    assert len(tuning_cells(made)[1]) == len(jobs) - 3

    kept = read_json(jobs[-1].file(bench))
    lacking = {name: value for name, value in kept.items() if name not in ('looks', 'aligned')}
    atomic_write(jobs[-1].file(bench), lacking)  # as an earlier version left it
    measure_again(jobs[-1], bench)
    again = read_json(jobs[-1].file(bench))
    assert set(again) == {*kept, 'measured_by'}
    for name, value in kept.items():
        assert again[name] == value, name  # the same numbers, and what was lacking

    jobs[0].file(bench).unlink()  # a trial of the first row: nothing else changes
    assert is_done(jobs[-1], bench)
    changed = dict(first, hash='another')
    atomic_write([job for job in jobs if job.row == 'first'][-1].file(bench), changed)
    with pytest.raises(UARError, match='another recipe'):
        is_done(jobs[-1], bench)
    shutil.rmtree(run)
    for job in jobs[-2:]:
        job.file(bench).unlink()
    with pytest.raises(UARError, match='is gone') as gone:
        run_job(jobs[-2], bench)
    assert 'trains it again' in str(gone.value)


def test_the_image_side_is_the_same_for_all_rows_of_table_1():
    about = find_table('1')
    sides = set()
    for row in about.rows:
        model = row_config(about, row, RECIPES['phantom'], (1e-3, 0.1)).model
        sides.add((model.visual, model.grid, model.positions, model.local_mixing, model.views))
    assert sides == {('tokens', 14, 'smooth', 2, 1)}


def test_every_row_gets_the_same_trials():
    about, recipe = find_table('1'), RECIPES['phantom']
    assert len(trial_choices(recipe)) == len(set(trial_choices(recipe))) == 6
    for row in about.rows:
        tried = set()
        for number in range(6):
            config = trial_config(about, row, recipe, number)
            main = config.train.stages[-1]
            assert main.steps == recipe.trial_steps and config.train.patience == 0
            tried.add((main.lr, config.model.dropout))
        assert tried == set(trial_choices(recipe))


def test_a_hash_knows_what_decides_and_not_the_machine():
    about, recipe = find_table('1'), RECIPES['phantom']
    config = row_config(about, about.row('uar'), recipe, (1e-3, 0.1))
    same = run_hash(config, recipe)
    assert run_hash(config.override({'train.threads': 8, 'train.device': 'cuda'}), recipe) == same
    skipped = {'train.threads', 'train.device', 'name'}
    changed = 0
    for path, value in leaves(config.to_dict()).items():
        if path in skipped or not isinstance(value, (int, float)) or isinstance(value, bool):
            continue
        if path.split('.')[-1] in ('steps', 'lr', 'dropout', 'seed', 'batch_size', 'weight_decay'):
            other = value + 1 if isinstance(value, int) else value * 1.5
            assert run_hash(config.override({path: other}), recipe) != same, path
            changed += 1
    assert changed >= 8


def test_a_new_field_changes_no_hash(monkeypatch):
    "What has its default is not in the hash, so that a later version finds its runs again."
    about, recipe = find_table('1'), RECIPES['phantom']
    config = row_config(about, about.row('uar'), recipe, (1e-3, 0.1))
    before = run_hash(config, recipe)

    def with_new_fields(values):
        found = leaves(values)
        if 'train' not in values:  # a stage
            return found | {'invented': 1}
        stages = range(len(values['train']['stages']))
        new = {f'train.stages.{number}.invented': 1 for number in stages}
        return found | {'model.invented': 0, 'train.invented': 'none', **new}

    monkeypatch.setattr('uar_nb.apps.table_rows.leaves', with_new_fields)
    assert run_hash(config, recipe) == before


def test_the_loss_of_the_words_chooses_among_trials(tmp_path):
    "A constant report can have the highest CIDEr; of equal losses the first is taken."
    bench = Bench(tmp_path, tmp_path / 'rows', RECIPES['toy'])
    job = Job('1', 'adaatt')
    choices = trial_choices(bench.recipe)
    for number, (rate, _) in enumerate(choices):
        kept = dict(rate=rate, score=1.2 - number, loss=0.5 - 0.1 * number)
        atomic_write(replace(job, trial=number).file(bench), kept)
    chosen, trials = tuned_choice(job, bench)
    assert chosen == choices[-1] and [trial['loss'] for trial in trials] == [0.5, 0.4]
    for number, (rate, _) in enumerate(choices):
        kept = dict(rate=rate, score=1.2 + number, loss=0.5)
        atomic_write(replace(job, trial=number).file(bench), kept)
    assert tuned_choice(job, bench)[0] == choices[0]


def test_trials_come_before_their_row_and_seed_0_before_the_others(tmp_path):
    bench = Bench(tmp_path, tmp_path / 'rows', RECIPES['toy'])
    jobs = list_jobs('1', bench, ('base', 'uar'), 3)
    names = [job.name(bench) for job in jobs]
    assert names == [
        '1-toy-base-trial0',
        '1-toy-base-trial1',
        '1-toy-base-0',
        '1-toy-uar-trial0',
        '1-toy-uar-trial1',
        '1-toy-uar-0',
        '1-toy-base-1',
        '1-toy-uar-1',
        '1-toy-base-2',
        '1-toy-uar-2',
    ]


# ---- LaTeX as text


def test_latex_has_no_command_of_a_name():
    said = latex_text('a_b & 50% {x} \\input $1 #2 ~ ^ − –')
    assert said == (
        r'a\_b \& 50\% \{x\} \textbackslash{}input \$1 \#2 \textasciitilde{} \textasciicircum{} '
        r'$-$ --'
    )


def braces(text):
    "The depth of braces at the end, and the lowest on the way; escaped ones are letters."
    depth, lowest, escaped = 0, 0, False
    for letter in text:
        if escaped:
            escaped = False
        elif letter == '\\':
            escaped = True
        elif letter in '{}':
            depth += 1 if letter == '{' else -1
            lowest = min(lowest, depth)
    return depth, lowest


def test_latex_is_whole(tmp_path):
    from table_files import keep_rows

    keep_rows(tmp_path)
    made = make_table(tmp_path, '1', 'made')
    tex = to_latex(made)
    assert braces(tex) == (0, 0)
    head, lines = score_cells(made)
    begun = [line for line in tex.splitlines() if line.startswith(r'\begin{tabular}')]
    assert begun[0] == rf'\begin{{tabular}}{{l{"r" * (len(head) - 1)}}}'
    rows = [line for line in tex.splitlines() if line.endswith(r'\\')]
    assert [row.count(' & ') for row in rows[: len(lines) + 1]] == [len(head) - 1] * len(
        rows[: len(lines) + 1]
    )
    for name in ('table', 'tabular'):
        assert tex.count(rf'\begin{{{name}}}') == tex.count(rf'\end{{{name}}}') == 2
