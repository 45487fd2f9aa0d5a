"""The training notebooks for GPUs run cell by cell on generated studies, written in the layout
of the data set that they are for, at toy size; what they say before a run is true."""

import ast
import json
import os
import subprocess
import sys

import pytest

from pages import ROOT, cells_of, find_page

TOY = {
    'model.d': 32,
    'model.d_ff': 32,
    'model.encoder_layers': 1,
    'model.decoder_layers': 1,
    'model.basis_size': 32,
    'model.image_vocab': 32,
    'data.min_count': 1,
    'data.crops': 1,
    'train.batch_size': 4,
    'train.stages.0.steps': 3,
    'train.stages.1.steps': 2,
    'train.eval_every': 3,
    'train.beam': 1,
    'train.threads': 1,
    'train.device': 'cpu',
}


def cells_named(notebook):
    "The cells of a training page, by its name without number."
    return cells_of(find_page(notebook, kind='training'))


def code_of(notebook):
    "The code cells of a notebook as one script."
    cells = cells_named(notebook)
    return '\n\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'code')


@pytest.mark.parametrize(
    'notebook, layout, views', [('train_iu_xray', 'openi', 2), ('train_mimic_cxr', 'mimic', 1)]
)
def test_a_training_notebook_runs_on_its_own_layout(tmp_path, notebook, layout, views):
    from uar_nb.data.load import save_studies
    from uar_nb.phantom.generator import make_studies

    studies = [
        s
        for split, n in (('train', 12), ('val', 4), ('test', 6))
        for s in make_studies(n, seed=5, split=split)
    ]
    save_studies(studies, tmp_path / 'data', layout)
    (tmp_path / 'toy.json').write_text(json.dumps(TOY), encoding='utf-8')
    (tmp_path / 'run.py').write_text(code_of(notebook), encoding='utf-8')
    there = dict(
        os.environ,
        UAR_DATA_SET=str(tmp_path / 'data'),
        UAR_RUNS=str(tmp_path / 'runs'),
        UAR_CONFIG=str(tmp_path / 'toy.json'),
        UAR_DVAE_STEPS='3',
        MPLBACKEND='agg',
        OMP_NUM_THREADS='1',
    )
    done = subprocess.run(
        [sys.executable, 'run.py'],
        cwd=tmp_path,
        env=there,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (run,) = (tmp_path / 'runs').iterdir()
    config = json.loads((run / 'config.json').read_text())
    assert config['model']['views'] == views and config['train']['stages'][1]['mask_on'] is True
    assert [
        json.loads(r)['stage']
        for r in (run / 'log.jsonl').read_text().splitlines()
        if json.loads(r)['kind'] == 'val'
    ][-1] == 'stage2'
    assert (run / 'checkpoint' / 'model.safetensors').exists() and len(
        (run / 'predictions.jsonl').read_text().splitlines()
    ) > 0


@pytest.mark.parametrize(
    'notebook, layout', [('train_iu_xray', 'iu_xray'), ('train_mimic_cxr', 'mimic_cxr')]
)
def test_the_saved_estimate_follows_from_what_was_measured(notebook, layout):
    """Steps, hours and bytes once more from the kept measurements; and the line through two
    batches holds at a third."""
    cells = cells_named(notebook)
    [said] = [
        ''.join(o['text'])
        for c in cells
        for o in c.get('outputs', [])
        if 'ESTIMATE, not measured on a GPU' in ''.join(o.get('text', ''))
    ]
    speed, size = (
        json.loads((ROOT / f'data/results/{n}.json').read_text(encoding='utf-8'))
        for n in ('speed', 'memory')
    )
    n, batch, epochs, places = {
        'iu_xray': (2069, 16, 100, 2 * 196 + 60),
        'mimic_cxr': (270_790, 64, 30, 196 + 100),
    }[layout]
    p, steps = size['presets'][layout], epochs * -(-n // batch)
    hours = steps * speed['median_seconds']['train_uar'] * batch * places / (16 * (392 + 60)) / 3600
    kept = {int(k): v for k, v in p['kept'].items()}
    ours = kept[2] + (batch - 2) * (kept[4] - kept[2]) / 2
    assert abs(kept[8] / (kept[2] + 3 * (kept[4] - kept[2])) - 1) < 0.01
    assert (
        f'{steps:,} steps' in said
        and f'{hours:,.0f} hours of steps' in said
        and f"{16 * p['parameters'] / 1e9:.2f} GB of weights" in said
        and f'{ours / 1e9:.2f} GB kept' in said
    )


def test_the_phantom_notebook_knows_every_plan():
    "Each plan has its bars, and each that the page's table names its true numbers of studies."
    from uar_nb.apps.demo import PLANS

    cells = [''.join(c['source']) for c in cells_named('train_phantom')]
    code = [
        ''.join(c['source'])
        for c in cells_named('train_phantom')
        if c['cell_type'] == 'code' and 'bars = ' in ''.join(c['source'])
    ]
    [bars] = [
        ast.unparse(node)
        for text in code
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == 'bars'
    ]
    for name in PLANS:
        there = {'name': name}
        exec(bars, there)
        assert len(there['bars']) == 3
    table = {
        r[0]: r[1:]
        for line in cells[0].splitlines()
        if line.startswith('| ')
        for r in [[x.strip() for x in line.strip('|').split('|')]]
    }
    assert table['training studies'] == [f'{PLANS[n].train:,}' for n in table['']]
    assert table['steps of stage 1 and 2'][:3] == [
        '{:,} + {:,}'.format(*(s.steps for s in PLANS[n].run_config().train.stages))
        for n in table[''][:3]
    ]
    big = PLANS['paper'].run_config().train
    assert table['steps of stage 1 and 2'][3] == '{} + {} epochs of {}'.format(
        *(s.epochs for s in big.stages), -(-PLANS['paper'].train // big.batch_size)
    )
