"""A stage ends when validation has not got better for `patience` evaluations; with
`settled_by='score_and_loss'` a falling loss of the words is getting better too."""

import pytest

from uar_nb.config import run_preset
from uar_nb.core import torch_rng
from uar_nb.experiment.prepare import prepare
from uar_nb.experiment.run_folder import read_log
from uar_nb.phantom.generator import make_studies
from uar_nb.tokenizer.dvae import DVAE, DVAEConfig
from uar_nb.training import Trainer

STEPS, EVERY, PATIENCE, LEAST = 40, 2, 2, 8
SMALL = {
    'model.d': 32,
    'model.heads': 2,
    'model.d_ff': 32,
    'model.max_words': 30,
    'model.dropout': 0.0,
    'data.max_words': 30,
    'train.batch_size': 4,
    'train.eval_every': EVERY,
    'train.patience': PATIENCE,
    'train.least_steps': LEAST,
    'train.beam': 1,
    'train.monitor': 'findings_f1',
    'train.threads': 1,
    'train.stages.0.steps': STEPS,
    'train.stages.0.schedule': 'constant',
}


@pytest.fixture(scope='module')
def made_from():
    studies = make_studies(8, seed=3, style='single') + make_studies(4, seed=3, split='val')
    with torch_rng('tests'):
        return studies, DVAE(DVAEConfig(codebook_size=16, width=8, stem=4, start='random')).eval()


def validations(made_from, folder, **changes):
    "The log rows of the validations of one stage."
    made = prepare(run_preset('phantom', 'base').override(SMALL | changes), *made_from)
    parts = (made.config, made.model, made.data['train'], made.data['val'], made.tokenizer)
    Trainer(*parts, folder, progress=False).fit()
    return read_log(folder, 'val')


def test_a_slow_start_is_no_end_for_the_loss(made_from, tmp_path):
    "At a low rate F1 stays 0 while the loss falls at every evaluation."
    rate = {'train.stages.0.lr': 1e-4}
    by_score = validations(made_from, tmp_path / 'score', **rate)
    by_both = validations(
        made_from, tmp_path / 'both', **rate, **{'train.settled_by': 'score_and_loss'}
    )
    assert {row['findings_f1'] for row in by_both} == {0.0}
    losses = [row['ce'] for row in by_both]
    assert losses == sorted(set(losses), reverse=True)  # it falls every time
    assert by_score[-1]['step'] == LEAST  # the first evaluation that may end the stage
    assert by_both[-1]['step'] == STEPS
    assert losses[: len(by_score)] == [row['ce'] for row in by_score]  # the same training


def test_a_model_that_stands_still_has_settled_by_either(made_from, tmp_path):
    still = {'train.stages.0.lr': 0.0, 'train.settled_by': 'score_and_loss'}
    assert validations(made_from, tmp_path, **still)[-1]['step'] == LEAST


def test_no_end_before_the_patience_is_used_up(made_from, tmp_path):
    changes = {'train.stages.0.lr': 0.0, 'train.patience': 6}
    rows = validations(made_from, tmp_path, **changes)
    assert len(rows) == 7 and rows[-1]['step'] == 7 * EVERY
