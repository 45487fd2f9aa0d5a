"A report says which image was taken for which view, and why; the order of the files means nothing."

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'data'))
from test_views import write_dicom

from uar_nb.apps.audit import audit
from uar_nb.apps.cli import main
from uar_nb.apps.reporter import Reporter, notes_on_views, read_study
from uar_nb.checkpoint import load_checkpoint
from uar_nb.core import UARError
from uar_nb.data.load import load_studies
from uar_nb.data.study import View, ViewChoice
from uar_nb.data.text import Vocabulary
from uar_nb.phantom.generator import make_studies


@pytest.fixture(scope='module')
def reporter():
    return Reporter.from_pretrained('phantom-small')


@pytest.fixture(scope='module')
def phantom():
    "(frontal, lateral) pixels of one phantom."
    [study] = make_studies(1, 8, frequencies='iu_xray')
    return [view.image() for view in study.views]


def save(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def as_dicom(path, pixels, **elements):
    return write_dicom(
        path, pixels.astype(np.uint16) * 16, WindowCenter=2040, WindowWidth=4081, **elements
    )


def views(report):
    return dict(zip(report.files, report.views, strict=True))


PAIRS = {  # how two files are named or headed: ((frontal's name, elements), (lateral's …))
    'headers': (('IM1.dcm', dict(ViewPosition='PA')), ('IM2.dcm', dict(ViewPosition='LL'))),
    'codes': (('IM1.dcm', dict(ViewPosition='AP')), ('IM2.dcm', dict(ViewPosition='LLAT'))),
    'series': (('1.dcm', {}), ('2.dcm', dict(SeriesDescription='THORAX SEITLICH'))),
    'names': (('x_PA.png', None), ('x_LAT.png', None)),
    'one name': (('bilateral.png', None), ('x_side.png', None)),
    'header against name': (
        ('a_lateral.dcm', dict(ViewPosition='AP')),
        ('b_frontal.dcm', dict(ViewPosition='RL')),
    ),
}


@pytest.mark.parametrize('pair', PAIRS)
def test_the_order_of_files_means_nothing_where_anything_tells(tmp_path, reporter, phantom, pair):
    files = []
    for (name, elements), pixels in zip(PAIRS[pair], phantom, strict=True):
        if elements is None:
            files.append(save(tmp_path / name, pixels))
        else:
            files.append(as_dicom(tmp_path / name, pixels, **elements))
    forth, back = (reporter(some, beams=1)[0] for some in (files, files[::-1]))
    assert views(forth) == views(back) == {files[0].name: 'frontal', files[1].name: 'lateral'}
    assert forth.to_dict() | {'notes': sorted(forth.notes)} == back.to_dict() | {
        'notes': sorted(back.notes)
    }
    assert bool(forth.notes) == (pair in ('series', 'one name', 'header against name'))


def test_where_nothing_tells_the_order_does_and_is_called_a_guess(tmp_path, reporter, phantom):
    files = [
        save(tmp_path / name, pixels)
        for name, pixels in zip(('1.png', '2.png'), phantom, strict=True)
    ]
    forth, back = (reporter(some, beams=1)[0] for some in (files, files[::-1]))
    assert views(forth) == {'1.png': 'frontal', '2.png': 'lateral'}
    assert views(back) == {'2.png': 'frontal', '1.png': 'lateral'}
    assert forth.notes == [
        '1.png is taken for frontal by its place: a guess',
        '2.png is taken for lateral by its place: a guess',
    ]
    assert 'note: 1.png is taken for frontal' in repr(forth)


def test_what_a_reader_should_not_overlook_is_a_note(tmp_path, phantom):
    frontal, lateral = phantom
    pa = as_dicom(tmp_path / 'pa.dcm', frontal, ViewPosition='PA')
    ap = as_dicom(tmp_path / 'ap.dcm', frontal, ViewPosition='AP')
    side = as_dicom(tmp_path / 'side.dcm', lateral, ViewPosition='LL')
    lying = as_dicom(tmp_path / 'lying.dcm', frontal, ViewPosition='LLD')
    mirrored = as_dicom(tmp_path / 'm.dcm', frontal[:, ::-1], PatientOrientation=['R', 'F'])
    named = as_dicom(tmp_path / 'x_lateral.dcm', frontal, ViewPosition='PA')

    def notes(*items):
        return notes_on_views(read_study(list(items)))

    assert notes(pa, side) == []
    assert notes(pa, ap) == ['2 images are frontal']
    assert notes(side) == ['no image is frontal']
    assert notes(pa, lying) == [
        'lying.dcm is neither frontal nor lateral (ViewPosition LLD): the model reads it as a view '
        'of its own kind, unknown'
    ]
    assert notes(mirrored) == ['m.dcm was mirrored to stand upright, as its file says']
    assert notes(named) == [
        'x_lateral.dcm is taken for frontal (header, ViewPosition PA), but name, lateral: lateral'
    ]
    assert 'but table, lateral: lateral' in notes(('lateral', pa))[0]
    assert notes(pa, side, save(tmp_path / 'third.png', frontal)) == [
        'third.png is taken for unknown by its place: a guess'
    ]
    np.testing.assert_array_equal(
        read_study([mirrored])[0].view.pixels, read_study([pa])[0].view.pixels
    )


def test_a_view_is_taken_as_it_says_and_a_file_once(tmp_path, phantom):
    path = as_dicom(tmp_path / 'pa.dcm', phantom[0], ViewPosition='PA')
    [image] = read_study([View('lateral', path)])
    assert (image.view.name, image.choice) == ('lateral', ViewChoice('lateral', 'caller'))
    png = save(tmp_path / '1.png', phantom[1])
    assert [i.view.name for i in read_study([View('frontal', pixels=phantom[0]), png])] == [
        'frontal',
        'lateral',
    ]
    with pytest.raises(UARError, match='named twice'):
        read_study([path, Path(f'{tmp_path}/./pa.dcm')])
    with pytest.raises(UARError, match='known views'):
        read_study([('upside', path)])


def test_the_command_says_it_in_text_and_in_json(tmp_path, capsys, phantom):
    files = [
        str(as_dicom(tmp_path / 'IM1.dcm', phantom[1], ViewPosition='LL')),
        str(
            as_dicom(
                tmp_path / 'IM2.dcm',
                phantom[0][:, ::-1],
                ViewPosition='PA',
                PatientOrientation=['R', 'F'],
            )
        ),
    ]

    def generate(*arguments):
        with pytest.raises(SystemExit) as end:
            main(['generate', *arguments, '--checkpoint', 'phantom-small', '--beams', '1'])
        assert not end.value.code
        return capsys.readouterr().out

    forth, back = generate(*files), generate(*files[::-1])
    assert forth == back
    assert 'images: IM2.dcm is frontal (header, ViewPosition PA), IM1.dcm is lateral' in forth
    assert 'note: IM2.dcm was mirrored to stand upright, as its file says' in forth
    numbers = json.loads(generate(*files, '--json'))
    assert numbers['images'] == [
        dict(file='IM2.dcm', view='frontal', source='header', reason='ViewPosition PA', against=[]),
        dict(file='IM1.dcm', view='lateral', source='header', reason='ViewPosition LL', against=[]),
    ]
    assert numbers['views'] == ['frontal', 'lateral'] and len(numbers['notes']) == 1


def test_audit_shows_what_decided_on_the_views(tmp_path, phantom):
    (tmp_path / 'set').mkdir()
    for i in range(3):
        as_dicom(tmp_path / f'set/{i}.dcm', np.roll(phantom[0], i), PatientOrientation=['R', 'F'])
    save(tmp_path / 'set/bilateral.png', phantom[1])
    found = audit(load_studies(tmp_path / 'set'), baselines=False)
    text = str(found)
    assert 'views of 4 images: 3 by the header, 1 by their order, a guess' in text
    assert '3 images are made upright as their files say: 0.dcm (mirrored)' in text


def test_a_report_in_chinese_has_no_blanks_between_characters(tmp_path, phantom):
    "Its words are characters; as a text they stand as people write them."
    checkpoint = load_checkpoint('phantom-small')
    words = checkpoint.vocabulary.words
    characters = [chr(0x4E00 + n) if n > 4 else word for n, word in enumerate(words)]
    reporter = Reporter(replace(checkpoint, vocabulary=Vocabulary(characters)))
    [report] = reporter([[save(tmp_path / 'frontal.png', phantom[0])]], beams=1)
    assert len(report.words) > 5 and '.' in report.words
    assert report.text == ' '.join(report.words).replace(' ', '').replace('.', ' . ').strip()
    assert report.to_dict()['text'] == report.text
