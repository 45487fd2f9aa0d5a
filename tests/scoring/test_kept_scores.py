"What an evaluation has kept is replaced by the same evaluation, or where the user says so."

import hashlib
import json
import shutil

import pytest
import torch

from forge import TINY_MODEL
from uar_nb.apps import real_text, tables
from uar_nb.apps.audit import audit_folder
from uar_nb.apps.demo import PLANS, run_demo
from uar_nb.config import run_preset
from uar_nb.core import UARError, atomic_write, read_json
from uar_nb.experiment.prepare import prepare
from uar_nb.phantom.generator import make_studies
from uar_nb.scoring import evaluate as module
from uar_nb.scoring.evaluate import evaluate, model_hash
from uar_nb.tokenizer.dvae import DVAE, DVAEConfig

SIZES = {
    **TINY_MODEL,
    'data.max_words': 12,
    'data.crops': 1,
}


def make(seed=3):
    "Model and data of a tiny run; nobody has trained it."
    studies = [
        study
        for split in ('train', 'val', 'test')
        for study in make_studies(4, seed, style='single', split=split)
    ]
    torch.manual_seed(0)
    tokenizer = DVAE(DVAEConfig(codebook_size=16, width=16, stem=8, start='random')).eval()
    return prepare(run_preset('phantom').override(SIZES), studies, tokenizer)


@pytest.fixture(scope='module')
def made():
    return make()


@pytest.fixture(scope='module')
def other_model(made):
    torch.manual_seed(1)
    return type(made.model)(made.model.config)


def score(model, data, folder, **options):
    return evaluate(model, data, **{'beams': 1, 'metrics': ('BLEU',)} | options, folder=folder)


@pytest.fixture
def kept(made, tmp_path):
    "A folder with the scores of a model."
    score(made.model, made.data['test'], tmp_path / 'scores')
    return tmp_path / 'scores'


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_again_is_the_same_files(made, kept):
    before = files(kept)
    score(make().model, make().data['test'], kept)
    assert files(kept) == before
    assert sorted(before) == ['predictions.jsonl', 'scores.json']


@pytest.mark.parametrize('difference', ['checkpoint', 'split', 'data', 'beams', 'studies'])
def test_another_evaluation_is_refused_and_can_be_told_to_replace(
    difference, made, other_model, kept
):
    model, data, options = made.model, made.data['test'], {}
    if difference == 'checkpoint':
        model = other_model
    if difference == 'split':
        data = made.data['val']
    if difference == 'data':
        data = make(seed=4).data['test']
    if difference == 'beams':
        options = dict(beams=2)
    if difference == 'studies':
        options = dict(limit=2)
    before = files(kept)
    with pytest.raises(UARError, match='scores of another evaluation.*choose another') as found:
        score(model, data, kept, **options)
    assert str(kept) in found.value.file and files(kept) == before
    score(model, data, kept.parent / 'another', **options)  # the first remedy
    score(model, data, kept, overwrite=True, **options)  # the second
    assert files(kept) == files(kept.parent / 'another') != before


@pytest.mark.parametrize(
    'name, text',
    [
        ('predictions.jsonl', 'mine\n'),
        ('scores.json', '{"values": {"BLEU_4": 0.1}, "beams": 1}'),
        ('scores.json', '{"values": '),
        ('scores.json', '[]'),
        ('scores.json', ''),
    ],
)
def test_files_that_do_not_say_what_they_are_of(name, text, made, tmp_path):
    "Of somebody's own, of an earlier version, damaged."
    (tmp_path / name).write_text(text)
    with pytest.raises(UARError, match='do not say of which checkpoint.*--overwrite'):
        score(made.model, made.data['test'], tmp_path)
    assert files(tmp_path) == {name: text.encode()}
    score(made.model, made.data['test'], tmp_path, overwrite=True)
    assert read_json(tmp_path / 'scores.json')['evaluated']['studies'] == 4


def test_other_files_of_the_folder_are_left_alone(made, tmp_path):
    (tmp_path / 'notes.txt').write_text('mine')
    score(made.model, made.data['test'], tmp_path)
    assert (tmp_path / 'notes.txt').read_text() == 'mine'


@pytest.mark.parametrize('ends_at', ['scores.json', 'predictions.jsonl'])
def test_an_evaluation_that_was_cut_off(ends_at, made, kept, monkeypatch):
    "The disk is full at one of the two files: the same command mends it, and the hash shows it."
    before = files(kept)
    shutil.rmtree(kept)

    def full(path, content):
        if path.name == ends_at:
            raise UARError('cannot be written (No space left on device)', file=path)
        return atomic_write(path, content)

    monkeypatch.setattr(module, 'atomic_write', full)
    with pytest.raises(UARError, match='No space left'):
        score(made.model, made.data['test'], kept)
    monkeypatch.undo()
    score(made.model, made.data['test'], kept)
    assert files(kept) == before
    predictions = hashlib.sha256(before['predictions.jsonl']).hexdigest()
    assert json.loads(before['scores.json'])['predictions'] == predictions


def test_the_refusal_comes_before_a_report_is_written(made, other_model, kept, monkeypatch):
    monkeypatch.setattr(module, 'write_reports', lambda *_, **__: pytest.fail('wrote reports'))
    with pytest.raises(UARError, match='another evaluation'):
        score(other_model, made.data['test'], kept)


def test_a_model_is_known_by_its_weights_in_any_precision(made, other_model):
    assert model_hash(made.model) == model_hash(make().model) != model_hash(other_model)
    half = make().model.bfloat16()
    assert model_hash(half) not in (model_hash(made.model), model_hash(other_model))


@pytest.mark.parametrize('name', ['predictions.jsonl', 'scores.json', 'summary.json'])
@pytest.mark.parametrize(
    'run',
    [
        lambda folder: run_demo(folder, 'toy', progress=False),
        lambda folder: real_text.run_real_text(folder, 'toy', progress=False),
        lambda folder: tables.train_rows(folder, ('base',), 'toy', progress=False),
    ],
    ids=['demo', 'real text', 'ablation'],
)
def test_programs_refuse_before_they_begin(name, run, tmp_path):
    (tmp_path / name).write_text('mine')
    with pytest.raises(UARError, match='no plan.json says what it is of.*choose another folder'):
        run(tmp_path)
    assert files(tmp_path) == {name: b'mine'}


@pytest.fixture
def no_training(monkeypatch):
    "Rows of an ablation without their training."
    monkeypatch.setattr(tables, 'demo_studies', lambda *_, **__: [])
    monkeypatch.setattr(tables, 'demo_dvae', lambda *_, **__: (None, {}))
    monkeypatch.setattr(tables, 'prepare_plan', lambda *_, **__: None)
    row = {'f1': 0.5, 'CIDEr': 0.1, 'pointing': 0.2}
    monkeypatch.setattr(tables, '_train_row', lambda plan, *_: row | {'seconds': 1.0})
    monkeypatch.setattr(tables, '_refine_once', lambda *_: dict(row))


def test_rows_of_an_ablation_are_added_to_those_there(no_training, tmp_path):
    tables.train_rows(tmp_path, ('base',), 'toy', progress=False)
    shown = tables.train_rows(tmp_path, ('uar',), 'toy', progress=False)
    assert list(shown) == ['uar']
    assert list(read_json(tmp_path / 'rows.json')) == ['base', 'uar']
    with pytest.raises(UARError, match='another plan'):
        tables.train_rows(tmp_path, ('a',), PLANS['quick'], progress=False)
    assert list(read_json(tmp_path / 'rows.json')) == ['base', 'uar']


def test_second_stages_are_of_one_first_stage(no_training, made, other_model, tmp_path):
    "Numbers of another first stage are not given for this one's."

    def refine(model, *variants):
        saved = type('Saved', (), dict(model=model))
        return tables.refine_first_stage(
            tmp_path / 'out', saved, 'toy', tmp_path, variants, seeds=(0,), progress=False
        )

    tables.load_checkpoint, theirs = (lambda saved: saved), tables.load_checkpoint
    try:
        refine(made.model, 'no-mask')
        assert [row['variant'] for row in refine(made.model, 'predicted')] == ['predicted']
        rows = read_json(tmp_path / 'out' / 'tir.json')
        assert [row['variant'] for row in rows] == ['no-mask', 'predicted']
        with pytest.raises(UARError, match='another plan'):
            refine(other_model, 'predicted')
    finally:
        tables.load_checkpoint = theirs


def test_audits_of_two_sets_of_one_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = dict(source='a/iu', splits={}, faults=[], remarks=[])
    atomic_write(tmp_path / 'runs' / 'audit' / 'iu' / 'audit.json', kept)
    assert audit_folder('a/iu') == audit_folder(tmp_path / 'a' / 'iu').relative_to('.')
    with pytest.raises(UARError, match='of another data set of this name: a/iu.*--out'):
        audit_folder('b/iu')
    audit_folder('b/iu', tmp_path / 'own')
