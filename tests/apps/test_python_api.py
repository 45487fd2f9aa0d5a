"What the functions that programs call say of None, empty texts, folders, and a wrong kind."

import re
from pathlib import Path

import numpy as np
import pytest

from uar_nb import Reporter, UARError, load_checkpoint, load_studies
from uar_nb.apps.audit import audit
from uar_nb.apps.pipeline import (
    TokenSource,
    evaluate_checkpoint,
    tokenize_data_set,
    train_model,
    write_phantom_set,
)
from uar_nb.config import run_preset
from uar_nb.scoring.evaluate import evaluate
from uar_nb.tokenizer.choose import load_tokenizer

WRONG = [None, '', '  ', 3, 2.5, True, b'set', ['set'], {}, object(), np.zeros(3), Path]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('api') / 'set'
    write_phantom_set({'train': 2, 'test': 1}, folder)
    return folder


@pytest.fixture(scope='module')
def checkpoint():
    return load_checkpoint('phantom-small')


@pytest.fixture(scope='module')
def reporter(checkpoint):
    return Reporter(checkpoint)


def said(function, *args, **kwargs):
    "The one clear sentence of a `UARError`."
    with pytest.raises(UARError) as caught:
        function(*args, **kwargs)
    assert re.search(r'\S — \w', str(caught.value)), caught.value  # what is wrong — what to do
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 400
    return str(caught.value)


@pytest.mark.parametrize('wrong', WRONG, ids=repr)
def test_what_is_no_path(wrong, checkpoint, tmp_path):
    config = run_preset('phantom')
    for function, *args in (
        (load_studies, wrong),
        (load_checkpoint, wrong),
        (Reporter.from_pretrained, wrong),
        (load_tokenizer, wrong),
        (train_model, wrong, config, tmp_path / 'run'),
        (evaluate_checkpoint, wrong, checkpoint),
        (tokenize_data_set, wrong, 'dvae', tmp_path / 'tokens'),
    ):
        assert 'path' in said(function, *args), function
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('wrong', ['', 3, ['a']], ids=repr)
def test_other_paths(wrong, data, tmp_path):
    assert 'images' in said(load_studies, data, images=wrong)
    assert 'folder' in said(train_model, data, run_preset('phantom'), wrong, progress=False)
    assert 'folder' in said(train_model, data, run_preset('phantom'), None, progress=False)


@pytest.mark.parametrize('wrong', [None, '', 3, {}, 'phantom', ['a']], ids=repr)
def test_things_of_a_wrong_kind(wrong, data, checkpoint, tmp_path):
    config, folder = run_preset('phantom'), tmp_path / 'run'
    assert 'run_preset' in said(train_model, data, wrong, folder)
    assert 'TokenSource' in said(train_model, data, config, folder, wrong)
    assert 'load_checkpoint' in said(evaluate_checkpoint, data, wrong)
    assert 'from_pretrained' in said(Reporter, wrong)
    assert 'make_data' in said(evaluate, checkpoint.model, wrong)
    assert 'make_data' in said(evaluate, wrong, wrong)
    assert not folder.exists()
    assert TokenSource()


def test_folders_that_are_something_else(data, tmp_path, reporter):
    assert 'there is no such file' in said(load_checkpoint, data)
    assert 'folder' in said(load_tokenizer, tmp_path / 'none')
    assert 'there is no study' in said(load_studies, tmp_path)
    assert 'is a folder' in said(reporter, data)
    assert 'is a folder' in said(reporter, [str(data)])


@pytest.mark.parametrize('wrong', [3, None, '', [''], [None], [3], [], [[]], [[None]], b'a', {}])
def test_no_image_for_a_reporter(wrong, reporter):
    assert 'files' in said(reporter, wrong)


def test_other_things_for_a_reporter(reporter, data):
    study = load_studies(data)[0]
    image = next(data.rglob('0.png'))
    assert 'files' in said(reporter, study)
    assert 'files' in said(reporter, np.zeros((8, 8)))
    assert 'batch_size' in said(reporter, image, batch_size=0)
    assert 'batch_size' in said(reporter, image, batch_size='many')
    assert 'beams' in said(reporter, image, beams=0)
    assert 'layer' in said(Reporter, reporter.checkpoint, layer=99)
    assert 'device' in said(Reporter, reporter.checkpoint, device='tpu')
    assert 'device' in said(Reporter, reporter.checkpoint, device=None)
    assert reporter(image, beams=1)[0].text == reporter([image], beams=1)[0].text
    assert reporter(list(study.views), beams=1)[0].text  # views of a study, too


def test_audit_takes_every_loading_option(data):
    "`check` as well, which audit sets itself where nobody asks."
    for check in (False, 'exists', True):
        assert not audit(data, with_images=False, baselines=False, check=check).failed
    assert 'check' in said(audit, data, check='perhaps')
