"""`uar evaluate`, `uar compare`, `uar export` and ReXrank's file, from one end to the other with
the checkpoint that ships with the package."""

import json

import pytest

from forge import POSIX
from uar_nb.scoring.evaluate import read_predictions
from uar_nb.scoring.scorer_files import detokenise

pytestmark = pytest.mark.skipif(not POSIX, reason='needs fork')
SCORE = ['--checkpoint', 'phantom-small', '-q']


@pytest.fixture(scope='module')
def home(forge, tmp_path_factory):
    "A folder with phantoms, and the predictions of one model with two kinds of search."
    home = tmp_path_factory.mktemp('scorers')

    def run(*argv):
        done = forge.run(list(argv), cwd=home)
        assert done.status == 0, done.err

    run('phantom', 2, 'set', '--test', 5, '-q')
    for beams in (1, 2):
        folder = f'beams{beams}'
        run('evaluate', 'set', *SCORE, '--beams', beams, '--out', folder, '--metric', 'BLEU')
    return home


def run(forge, home, *argv):
    return forge.run([str(part) for part in argv], cwd=home)


def test_two_evaluations_are_compared(forge, home):
    done = run(forge, home, 'compare', 'beams1', 'beams2', '--draws', 200)
    assert done.status == 0, done.err
    assert 'beams differ (beams1: 1, beams2: 2)' in done.out and 'CIDEr' in done.out
    done = run(
        forge, home, 'compare', 'beams1', 'beams2', '--json', '--score', 'F1', '--draws', 200
    )
    numbers = json.loads(done.out)
    scores = json.loads((home / 'beams1' / 'scores.json').read_text())
    assert numbers['studies'] == 5
    assert numbers['rows'][0]['first'] == pytest.approx(scores['findings']['f1'])


def test_what_cannot_be_compared_is_one_line(forge, home):
    fewer = ['--limit', 4, '--beams', 1, '--metric', 'BLEU', '--out', 'fewer']
    assert run(forge, home, 'evaluate', 'set', *SCORE, *fewer).status == 0
    done = run(forge, home, 'compare', 'beams1', 'fewer')
    assert done.status == 2 and done.err.count('\n') == 1
    assert 'fewer/predictions.jsonl, id: lacks 1 of the 5 studies' in done.err


@pytest.mark.parametrize('scorer', ['radeval', 'cxrmetric', 'radfact'])
def test_predictions_are_exported(scorer, forge, home):
    done = run(forge, home, 'export', 'beams1', '--for', scorer, '--out', scorer)
    assert done.status == 0, done.err
    assert all((home / line).is_file() for line in done.out.split())
    text = ''.join((home / line).read_text(encoding='utf-8') for line in done.out.split())
    predictions = read_predictions(home / 'beams1')
    annotation = json.loads((home / 'set' / 'annotation.json').read_text(encoding='utf-8'))
    for row, study in zip(predictions.rows, annotation['test'], strict=True):
        assert detokenise(row['report']) in text and study['report'] in text
    again = run(forge, home, 'export', 'beams1', '--for', scorer, '--out', scorer)
    assert again.status == 2 and 'is there already' in again.err


@pytest.fixture(scope='module')
def rexrank(home):
    "The same five studies as ReXrank has them; one of them without findings."
    annotation = json.loads((home / 'set' / 'annotation.json').read_text(encoding='utf-8'))
    entries = {
        study['id']: dict(
            key_image_path=study['image_path'][0],
            image_path=study['image_path'],
            section_findings=study['report'],
            frontal_lateral=['Frontal', 'Lateral'],
            context=None,
        )
        for study in annotation['test']
    }
    list(entries.values())[3]['section_findings'] = None
    (home / 'in.json').write_text(json.dumps(entries), encoding='utf-8')
    return entries


def test_rexranks_file_comes_back_with_predictions(forge, home, rexrank):
    "The reports are those that `uar evaluate` writes of the same images."
    command = ['evaluate', '--rexrank', 'in.json', '--images', 'set/images', *SCORE, '--beams', 1]
    done = run(forge, home, *command, '--out', 'out.json')
    assert done.status == 0, done.err
    assert 'ReXrank BLEU-2' in done.out and 'have no findings: 1 studies' in done.out
    out = json.loads((home / 'out.json').read_text(encoding='utf-8'))
    said = [entry.pop('model_prediction') for entry in out.values()]
    reports = read_predictions(home / 'beams1').column('report')
    assert said == [detokenise(report) for report in reports] and out == rexrank
    again = run(forge, home, *command, '--out', 'out.json')
    assert again.status == 2 and 'is there already' in again.err
    assert run(forge, home, *command, '--out', 'out.json', '--overwrite').status == 0
    first = run(forge, home, *command, '--out', 'two.json', '--limit', 2)
    assert first.status == 0 and len(json.loads((home / 'two.json').read_text())) == 2


def test_without_any_findings_there_is_no_score(forge, home, rexrank):
    entries = {study: dict(entry, section_findings=None) for study, entry in rexrank.items()}
    (home / 'set' / 'images' / 'bare.json').write_text(json.dumps(entries), encoding='utf-8')
    done = run(
        forge, home, 'evaluate', '--rexrank', 'set/images/bare.json', *SCORE, '--out', 'bare.json'
    )  # images lie beside the file
    assert done.status == 0 and 'BLEU' not in done.out and '5 studies: bare.json' in done.out


WRONG = {
    'nothing is named': [],
    'two things are named': ['set', '--rexrank', 'in.json'],
    '--out: is missing': ['--rexrank', 'in.json'],
    'is the input': ['--rexrank', 'in.json', '--out', 'in.json', '--overwrite'],
    'is a folder': ['--rexrank', 'in.json', '--out', 'set'],
    'there is no such file': ['--rexrank', 'nowhere.json', '--out', 'new.json'],
    'image not found': ['--rexrank', 'in.json', '--out', 'new.json'],
    'is not JSON': ['--rexrank', 'beams1/predictions.jsonl', '--out', 'new.json'],
    'no object of studies': ['--rexrank', 'list.json', '--out', 'new.json'],
    '--split: has no effect': ['--rexrank', 'in.json', '--out', 'new.json', '--split', 'val'],
    '--metric: has no effect': ['--rexrank', 'in.json', '--out', 'new.json', '--metric', 'BLEU'],
    '--load: has no effect': ['--rexrank', 'in.json', '--out', 'new.json', '--load', 'text=both'],
    '--images: has no effect': ['set', '--images', 'set'],
}


@pytest.mark.parametrize('message', WRONG)
def test_what_does_not_go_together_is_one_error(message, forge, home, rexrank):
    (home / 'list.json').write_text('[]')
    done = run(forge, home, 'evaluate', *WRONG[message], *SCORE)
    assert done.status == 2 and done.out == '' and done.err.count('error: ') == 1, done.err
    assert message in done.err and not (home / 'new.json').exists()
