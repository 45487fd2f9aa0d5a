"""Weights that are no numbers, or not those of a model: refused by name wherever they are read or
written, with a remedy that works."""

import math
import shutil
import struct

import pytest
import safetensors.torch
import torch

from forge import TINY_MODEL
from uar_nb.apps.reporter import write_report
from uar_nb.checkpoint import load_checkpoint, save_checkpoint
from uar_nb.config import run_preset
from uar_nb.core import UARError, find_model, load_tensors
from uar_nb.experiment.prepare import prepare
from uar_nb.experiment.run_folder import find_state, read_log, read_position
from uar_nb.model import UAR
from uar_nb.phantom.generator import make_studies
from uar_nb.tokenizer.dvae import DVAE, DVAEConfig, train_dvae
from uar_nb.training import Trainer


@pytest.fixture
def checkpoint(tmp_path):
    "A copy of the checkpoint that ships with the package."
    return shutil.copytree(find_model('phantom-small'), tmp_path / 'ck')


def change(file, make):
    "Rewrite a safetensors file, its tensors changed."
    tensors, about = load_tensors(file)
    file.write_bytes(safetensors.torch.save(make(tensors), metadata=about))


def poison(file, value, n=5):
    "One value of the n-th tensor is no number; its name."
    name = list(load_tensors(file)[0])[n]

    def make(tensors):
        tensors[name].view(-1)[0] = value
        return tensors

    change(file, make)
    return name


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    'read',
    [
        load_checkpoint,
        UAR.from_pretrained,
        lambda folder: write_report(['x.png'], folder),
    ],
    ids=['load_checkpoint', 'from_pretrained', 'write_report'],
)
def test_one_weight_is_no_number(value, read, checkpoint):
    file = checkpoint / 'model.safetensors'
    name = poison(file, value)
    with pytest.raises(UARError, match='holds NaN or infinity: 1 of .* copy or download') as found:
        read(checkpoint)
    assert (found.value.file, found.value.field) == (str(file), name)
    shutil.copy(find_model('phantom-small') / 'model.safetensors', file)  # the remedy
    load_checkpoint(checkpoint)


def test_one_weight_of_the_tokenizer_is_no_number(checkpoint):
    file = checkpoint / 'tokenizer' / 'model.safetensors'
    name = poison(file, math.nan, n=0)
    with pytest.raises(UARError, match='NaN') as found:
        load_checkpoint(checkpoint)
    assert (found.value.file, found.value.field) == (str(file), name)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions_are_read(dtype, checkpoint):
    "A float is a float: double is rounded, half is what it is."
    file = checkpoint / 'model.safetensors'
    before = load_checkpoint(checkpoint).model.state_dict()
    change(file, lambda tensors: {name: t.to(dtype) for name, t in tensors.items()})
    after = load_checkpoint(checkpoint).model.state_dict()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        assert torch.equal(after[name], tensor.to(dtype).to(tensor.dtype)), name


@pytest.mark.parametrize('dtype', [torch.int8, torch.int64, torch.bool, torch.float8_e4m3fn])
def test_other_kinds_of_numbers_are_not(dtype, checkpoint):
    "Names and shapes are right; the scales of quantised weights are not in the file."
    file = checkpoint / 'model.safetensors'
    change(file, lambda tensors: {name: t.to(dtype) for name, t in tensors.items()})
    with pytest.raises(UARError, match=f'is of type {dtype}, not torch.float32'):
        load_checkpoint(checkpoint)


def test_a_double_that_is_too_large(checkpoint):
    file = checkpoint / 'model.safetensors'
    change(file, lambda tensors: {name: t.double() for name, t in tensors.items()})
    name = poison(file, 1e300)
    with pytest.raises(UARError, match='weights of 32 bits') as found:
        load_checkpoint(checkpoint)
    assert found.value.field == name


EMPTY = struct.pack('<Q', 2) + b'{}'
POINTER = b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n'


@pytest.mark.parametrize(
    'content, says',
    [
        (b'', 'not a whole safetensors file .*copy or download it again'),
        (b'<html>Please log in</html>', 'not a whole safetensors file .*download it again'),
        (POINTER, 'pointer of Git LFS.*git lfs pull'),
        (EMPTY, 'faults, first: .* is missing.*of one checkpoint'),
    ],
    ids=['empty', 'a web page', 'Git LFS', 'no tensors'],
)
def test_a_file_that_holds_no_weights(content, says, checkpoint):
    (checkpoint / 'model.safetensors').write_bytes(content)
    with pytest.raises(UARError, match=says):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize('share', [0.001, 0.5, 0.999])
def test_a_file_that_was_cut_off(share, checkpoint):
    file = checkpoint / 'model.safetensors'
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UARError, match='not a whole safetensors file'):
        load_checkpoint(checkpoint)


def test_a_checkpoint_of_no_numbers_is_not_written(tmp_path):
    found = load_checkpoint('phantom-small')
    parts = found.vocabulary, found.data, found.tokenizer
    save_checkpoint(tmp_path / 'ck', found.model, *parts)
    before = (tmp_path / 'ck' / 'model.safetensors').read_bytes()
    with torch.no_grad():
        next(found.model.parameters()).view(-1)[0] = math.nan
    with pytest.raises(UARError, match='NaN.*nothing was written'):
        save_checkpoint(tmp_path / 'ck', found.model, *parts)
    assert (tmp_path / 'ck' / 'model.safetensors').read_bytes() == before


SIZES = {
    **TINY_MODEL,
    'data.max_words': 12,
    'data.crops': 1,
    'train.stages.0.steps': 8,
    'train.stages.1.steps': 2,
    'train.eval_every': 4,
    'train.save_every': 2,
    'train.batch_size': 4,
    'train.monitor': 'loss',
}


@pytest.fixture(scope='module')
def studies():
    return make_studies(8, 3, style='single') + make_studies(4, 3, style='single', split='val')


@pytest.fixture(scope='module')
def tokenizer():
    torch.manual_seed(0)
    return DVAE(DVAEConfig(codebook_size=16, width=16, stem=8, start='random')).eval()


def trainer(folder, studies, tokenizer, kind=Trainer, **changes):
    made = prepare(run_preset('phantom').override(SIZES | changes), studies, tokenizer)
    data = made.data
    return kind(
        made.config, made.model, data['train'], data['val'], tokenizer, folder, progress=False
    )


def breaks_after(at_step):
    "A trainer whose weights become NaN in one step, as a bad batch or a fault of a GPU would do."

    class Broken(Trainer):
        def train_step(self, *args):
            done = super().train_step(*args)
            if self.at.total == at_step - 1:
                with torch.no_grad():
                    next(self.model.parameters()).view(-1)[0] = math.nan
            return done

    return Broken


@pytest.mark.parametrize('step, kept', [(1, None), (2, None), (3, 2), (4, 2), (7, 6)])
def test_weights_become_nan_in_training(step, kept, studies, tokenizer, tmp_path):
    """The training stops with one sentence, be it before a state, a validation or a plain step;
    the last good state is kept, and the same command goes on from it to the same end."""
    whole = trainer(tmp_path / 'whole', studies, tokenizer)
    whole.fit()
    with pytest.raises(UARError, match='NaN|nan') as found:
        trainer(tmp_path / 'run', studies, tokenizer, breaks_after(step)).fit()
    assert str(tmp_path / 'run') in found.value.file
    state = find_state(tmp_path / 'run')
    assert (read_position(state / 'position.json').total if state else None) == kept
    assert not list((tmp_path / 'run').glob('lock*'))
    again = trainer(tmp_path / 'run', studies, tokenizer)
    again.fit()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name
    rows = [[r for r in read_log(tmp_path / f, 'val')] for f in ('whole', 'run')]
    assert [r['loss'] for r in rows[0]] == [r['loss'] for r in rows[1]]


def test_a_learning_rate_that_is_too_high(studies, tokenizer, tmp_path):
    "The remedy of the message: another folder and a lower rate."
    high = {'train.stages.0.lr': 1e30, 'train.clip': 0.0}
    with pytest.raises(UARError, match='another folder and lower the learning rate') as found:
        trainer(tmp_path / 'run', studies, tokenizer, **high).fit()
    assert found.value.field == 'train.stages.0.lr'
    trainer(tmp_path / 'lower', studies, tokenizer).fit()


def test_a_validation_that_is_nan_chooses_nothing(studies, tokenizer, tmp_path):
    run = trainer(tmp_path / 'run', studies, tokenizer)
    run.validator.losses = lambda *_: dict(loss=math.nan)
    with pytest.raises(UARError, match='loss of the validation studies is nan at step 4'):
        run.fit()
    assert not (tmp_path / 'run' / 'checkpoint_stage1').exists()


def test_a_dvae_that_diverges(studies):
    import numpy as np

    images = np.stack([study.views[0].image() for study in studies])
    with pytest.raises(UARError, match='loss is .* lower learning rate'):
        train_dvae(images, DVAEConfig(codebook_size=16, width=16, stem=8, lr=1e9), steps=25)
    train_dvae(images, DVAEConfig(codebook_size=16, width=16, stem=8), steps=3)
