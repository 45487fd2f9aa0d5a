"The training notebooks for GPUs run cell by cell on generated studies, written in the layout of the data set that they are for, at toy size."
import json, os, subprocess, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOY = {'model.d': 32, 'model.d_ff': 32, 'model.encoder_layers': 1, 'model.decoder_layers': 1, 'model.basis_size': 32, 'model.image_vocab': 32, 'data.min_count': 1, 'data.crops': 1,
       'train.batch_size': 4, 'train.stages.0.steps': 3, 'train.stages.1.steps': 2, 'train.eval_every': 3, 'train.beam': 1, 'train.threads': 1, 'train.device': 'cpu'}


def code_of(notebook):
    "The code cells of a notebook as one script."
    cells = json.loads((ROOT/'nbs'/notebook).read_text(encoding='utf-8'))['cells']
    return '\n\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'code')


@pytest.mark.parametrize('notebook, layout, views', [('31_train_iu_xray.ipynb', 'openi', 2), ('32_train_mimic_cxr.ipynb', 'mimic', 1)])
def test_a_training_notebook_runs_on_its_own_layout(tmp_path, notebook, layout, views):
    from uar_nb.phantom import make_studies
    from uar_nb.studies import save_studies
    studies = [s for split, n in (('train', 12), ('val', 4), ('test', 6)) for s in make_studies(n, seed=5, split=split)]
    save_studies(studies, tmp_path/'data', layout)
    (tmp_path/'toy.json').write_text(json.dumps(TOY), encoding='utf-8')
    (tmp_path/'run.py').write_text(code_of(notebook), encoding='utf-8')
    there = dict(os.environ, UAR_DATA_SET=str(tmp_path/'data'), UAR_RUNS=str(tmp_path/'runs'), UAR_CONFIG=str(tmp_path/'toy.json'), UAR_DVAE_STEPS='3', MPLBACKEND='agg', OMP_NUM_THREADS='1')
    done = subprocess.run([sys.executable, 'run.py'], cwd=tmp_path, env=there, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    run, = (tmp_path/'runs').iterdir()
    config = json.loads((run/'config.json').read_text())
    assert config['model']['views'] == views and config['train']['stages'][1]['mask_on'] is True
    assert [json.loads(r)['stage'] for r in (run/'log.jsonl').read_text().splitlines() if json.loads(r)['kind'] == 'val'][-1] == 'stage2'
    assert (run/'checkpoint'/'model.safetensors').exists() and len((run/'predictions.jsonl').read_text().splitlines()) > 0
