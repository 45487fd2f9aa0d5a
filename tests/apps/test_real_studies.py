"On real studies, where UAR_DATA names a folder that has them."

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pages import ROOT

DATA = Path(os.environ.get('UAR_DATA', 'UAR_DATA is not set'))
real = pytest.mark.skipif(
    not (DATA / 'iu_xray' / 'annotation_with_images.json').is_file(),
    reason='UAR_DATA names no folder with iu_xray/annotation_with_images.json',
)
SMALL = dict(
    data=dict(min_count=1, max_words=101, crops=0),  # 100 words and <eos>; every word kept
    model=dict(
        d=64,
        heads=4,
        cra_heads=4,
        d_ff=128,
        encoder_layers=1,
        decoder_layers=1,
        basis_size=64,
        image_dropout=0.0,
        dropout=0.0,
    ),
    train=dict(
        batch_size=6,
        log_every=20,
        save_every=200,
        stages=[
            dict(name='stage1', steps=160, lr=3e-3, warmup=10, lambdas=[1, 1, 0]),
            dict(
                name='stage2',
                steps=40,
                lr=5e-4,
                mask_lr=3e-3,
                warmup=5,
                lambdas=[1, 1, 1],
                mask_on=True,
            ),
        ],
    ),
)


def uar(*argv, cwd):
    env = {
        **os.environ,
        'OMP_NUM_THREADS': os.environ.get('OMP_NUM_THREADS', '2'),
        'PYTHONPATH': str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, '-m', 'uar_nb', *map(str, argv)],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@real
@pytest.mark.slow  # 1 min
def test_six_real_studies_are_written_back_word_for_word(tmp_path):
    """All words kept, 100 words, no validation split, a dVAE trained on those images and on
    frontal/: `uar train`, `uar evaluate`, `uar generate`."""
    from uar_nb.data.text import clean_report

    annotation = DATA / 'iu_xray' / 'annotation_with_images.json'
    (tmp_path / 'small.json').write_text(json.dumps(SMALL))
    said = uar(
        'train',
        annotation,
        '--preset',
        'iu_xray',
        '--config',
        'small.json',
        '--dvae-extra',
        DATA / 'frontal',
        '--dvae-steps',
        150,
        '--codebook',
        128,
        '--out',
        'run',
        cwd=tmp_path,
    )
    assert 'no validation studies' in said
    truth = {
        s['id']: clean_report(s['report'], 'iu_xray')
        for s in json.loads(annotation.read_text())['train']
    }
    assert len(truth) == 6
    uar(
        'evaluate',
        annotation,
        '--checkpoint',
        'run/checkpoint',
        '--split',
        'train',
        '--out',
        'scores',
        '-q',
        '--metric',
        'BLEU',
        cwd=tmp_path,
    )
    written = {
        r['id']: r['report']
        for r in map(
            json.loads, (tmp_path / 'scores' / 'predictions.jsonl').read_text().splitlines()
        )
    }
    assert {i for i in truth if written[i] != truth[i]} == set()
    for name in sorted(truth)[:2]:
        images = [DATA / 'iu_xray' / 'images' / name / f'{n}.png' for n in (0, 1)]
        numbers = json.loads(
            uar('generate', *images, '--checkpoint', 'run/checkpoint', '--json', cwd=tmp_path)
        )
        assert numbers['text'] == truth[name] and len(numbers['probabilities']) == len(
            truth[name].split()
        )
