"A dVAE as an image encoder: frozen it stays, tuned it learns, saved it needs no tokenizer."

import numpy as np
import pytest
import torch

from uar_nb.checkpoint import load_checkpoint
from uar_nb.config import run_preset
from uar_nb.core import torch_rng
from uar_nb.experiment.prepare import prepare
from uar_nb.phantom.generator import make_studies
from uar_nb.scoring.evaluate import write_reports
from uar_nb.tokenizer.dvae import DVAE, DVAEConfig
from uar_nb.training import Trainer

SMALL = {
    'model.d': 32,
    'model.heads': 2,
    'model.d_ff': 32,
    'model.max_words': 30,
    'data.max_words': 30,
    'train.batch_size': 4,
    'train.eval_every': 4,
    'train.beam': 1,
    'train.monitor': 'loss',
    'train.threads': 1,
    'train.stages.0.steps': 4,
    'train.stages.0.warmup': 1,
    'train.weight_decay': 0.1,
}


@pytest.fixture(scope='module')
def studies():
    return make_studies(8, seed=3, style='single') + make_studies(4, seed=3, split='val')


@pytest.fixture(scope='module')
def dvae():
    with torch_rng('tests'):
        return DVAE(DVAEConfig(codebook_size=16, width=8, stem=4, start='random')).eval()


def trained(name, studies, dvae, folder, **changes):
    config = run_preset('phantom', name).override(SMALL | changes)
    made = prepare(config, studies, dvae)
    trainer = Trainer(
        made.config,
        made.model,
        made.data['train'],
        made.data['val'],
        made.tokenizer,
        folder,
        progress=False,
    )
    trainer.fit()
    return made, trainer


def parts(model, dvae):
    "Pairs of a tensor of the model and of the dVAE that it came from."
    theirs = dvae.state_dict()
    own = model.cnn.state_dict()
    return {name: (own[name], theirs[name]) for name in own if name in theirs}


@pytest.mark.parametrize('name', ['codes', 'soft', 'features'])
def test_a_frozen_one_stays_as_it_is(name, studies, dvae, tmp_path):
    made, _ = trained(name, studies, dvae, tmp_path, **{'train.stages.0.trunk_lr': 0.0})
    for tensor, (ours, theirs) in parts(made.model, dvae).items():
        assert torch.equal(ours, theirs), tensor


@pytest.mark.parametrize('name', ['soft', 'features'])
def test_a_tuned_one_learns(name, studies, dvae, tmp_path):
    made, _ = trained(name, studies, dvae, tmp_path)
    moved = [t for t, (ours, theirs) in parts(made.model, dvae).items() if not ours.equal(theirs)]
    assert 'context.0.weight' in moved
    assert ('codebook' in moved) == (name == 'soft')


def test_a_choice_teaches_the_codebook_alone(studies, dvae, tmp_path):
    made, _ = trained('codes', studies, dvae, tmp_path)
    moved = [t for t, (ours, theirs) in parts(made.model, dvae).items() if not ours.equal(theirs)]
    assert moved == ['codebook']


def test_a_checkpoint_writes_the_same_reports_without_a_tokenizer(studies, dvae, tmp_path):
    made, trainer = trained('soft', studies, dvae, tmp_path)
    again = load_checkpoint(trainer.checkpoint_folder())
    assert again.tokenizer is None and not (trainer.checkpoint_folder() / 'tokenizer').exists()
    assert torch.equal(again.model.cnn.deviation, made.model.cnn.deviation)
    reports = [
        write_reports(m.eval(), made.data['val'], beams=1) for m in (made.model, again.model)
    ]
    assert reports[0] == reports[1]


def test_every_component_of_training_images_has_mean_0_and_variance_1(studies, dvae):
    made = prepare(run_preset('phantom', 'features').override(SMALL), studies, dvae)
    batch = made.data['train'].batch(range(8), 0)
    with torch.no_grad():
        x = made.model.cnn(batch.images[batch.view_mask]).flatten(0, 1).numpy()
    moving = x.std(0) > 1e-3
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(x.std(0)[moving], 1, atol=1e-2)
