"Blocking of trigrams, from the search to the command line."

import json
import subprocess
import sys
from pathlib import Path

import pytest

from forge import TINY_MODEL
from uar_nb.checkpoint import save_checkpoint
from uar_nb.config import run_preset
from uar_nb.core import torch_rng
from uar_nb.experiment.prepare import prepare
from uar_nb.phantom.generator import make_studies, write_studies
from uar_nb.scoring.evaluate import evaluate, write_reports
from uar_nb.tokenizer.dvae import DVAE, DVAEConfig

TINY = {
    **TINY_MODEL,
    'data.crops': 0,
}


def repeats(report):
    "Whether three words in a row occur twice."
    words = report.split()
    threes = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(threes)) < len(threes)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "A model that nobody has trained: it writes the same words over and over."
    folder = tmp_path_factory.mktemp('blocked')
    studies = make_studies(4, 3, style='single')
    studies += make_studies(3, 3, style='single', split='test')
    with torch_rng('blocked'):
        tokenizer = DVAE(DVAEConfig(codebook_size=16, width=16, stem=8, start='random')).eval()
    prepared = prepare(run_preset('phantom').override(TINY), studies, tokenizer)
    words, data = prepared.vocabulary, prepared.config.data
    save_checkpoint(folder / 'checkpoint', prepared.model, words, data, tokenizer)
    write_studies(studies, folder / 'set')
    return prepared, folder


@pytest.mark.parametrize('beams', [1, 3])
def test_written_reports(made, beams):
    prepared, _ = made
    free = [report for report, _ in write_reports(prepared.model, prepared.data['test'], beams)]
    assert any(map(repeats, free))
    blocked = write_reports(prepared.model, prepared.data['test'], beams, block_trigrams=True)
    assert not any(repeats(report) for report, _ in blocked)


def test_scores_say_how_reports_were_written(made, tmp_path):
    prepared, _ = made
    for block in (False, True):
        folder = tmp_path / str(block)
        options = dict(folder=folder, metrics=['BLEU'], block_trigrams=block)
        found = evaluate(prepared.model, prepared.data['test'], 1, **options)
        assert any(map(repeats, found.reports)) is not block
        assert json.loads((folder / 'scores.json').read_text())['block_trigrams'] is block


def uar(*argv, cwd):
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, '-m', 'uar_nb', *map(str, argv)],
        cwd=cwd,
        env={'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1', 'PATH': '/usr/bin:/bin'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_generate_on_the_command_line(made):
    _, folder = made
    image = next((folder / 'set' / 'images').rglob('*.png'))
    command = ['generate', image, '--checkpoint', 'checkpoint', '--beams', 1, '--json']
    assert repeats(json.loads(uar(*command, cwd=folder))['text'])
    assert not repeats(json.loads(uar(*command, '--block-trigrams', cwd=folder))['text'])


def test_evaluate_on_the_command_line(made):
    _, folder = made
    command = ['evaluate', 'set', '--checkpoint', 'checkpoint', '--beams', 1, '-q']
    uar(*command, '--metric', 'BLEU', '--block-trigrams', '--out', 'scores', cwd=folder)
    rows = (folder / 'scores' / 'predictions.jsonl').read_text().splitlines()
    assert not any(repeats(json.loads(row)['report']) for row in rows)
