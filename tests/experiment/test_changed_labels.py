"""A run knows the labels of its studies, because tags, rewards and box losses learn from them:
where they were changed it does not go on."""

import json

import pytest

from forge import TINY
from uar_nb.apps.pipeline import TokenSource, train_model
from uar_nb.config import run_preset
from uar_nb.core import UARError, read_json
from uar_nb.data.load import save_studies
from uar_nb.phantom.generator import make_studies


@pytest.fixture(scope='module')
def begun(tmp_path_factory):
    "A set with labels and boxes in three splits, and a run on it."
    home = tmp_path_factory.mktemp('labels')
    studies = [s for split in ('train', 'val', 'test') for s in make_studies(5, 3, split=split)]
    save_studies(studies, home / 'set', 'phantom')
    changes = dict(setting.split('=') for setting in TINY) | {'train.device': 'cpu'}
    config = run_preset('phantom').override(changes)

    def go_on():
        source = TokenSource(steps=2, codebook=16)
        train_model(home / 'set', config, home / 'run', source, progress=False)

    go_on()
    return home, go_on


def change(home, split, what):
    "Change the first finding that a split has; gives back what undoes it."
    file = home / 'set' / 'annotation.json'
    before = file.read_text('utf-8')
    entries = json.loads(before)
    finding = next(f for entry in entries[split] for f in entry['findings'])
    what(finding)
    file.write_text(json.dumps(entries), 'utf-8')
    return lambda: file.write_text(before, 'utf-8')


def other_kind(finding):
    finding.update(kind='scoliosis', side='right', zone='', severity='')
    finding['boxes'] = {}


def other_box(finding):
    view = next(iter(finding['boxes']))
    finding['boxes'][view][0][0] += 1


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize('what', [other_kind, other_box])
def test_changed_labels_do_not_go_on(split, what, begun):
    home, go_on = begun
    undo = change(home, split, what)
    try:
        with pytest.raises(UARError, match='whose studies had other findings') as e:
            go_on()
    finally:
        undo()
    assert e.value.field == 'findings' and e.value.remedy
    go_on()  # with its own labels it is fine


def test_labels_of_the_test_split_are_not_the_runs(begun):
    home, go_on = begun
    undo = change(home, 'test', other_kind)
    go_on()
    undo()


def test_a_run_of_before_goes_on(begun):
    "Its data.json names no findings."
    home, go_on = begun
    card = read_json(home / 'run' / 'data.json')
    del card['findings']
    (home / 'run' / 'data.json').write_text(json.dumps(card))
    go_on()
    undo = change(home, 'train', other_kind)
    go_on()
    undo()
