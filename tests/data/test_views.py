"""Which view is it, and which way up? One decision for all readers: the header, the table, whole
words of the name, then the order, and it is said which."""

import csv
import gzip
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uar_nb.core import UARError
from uar_nb.data import batch
from uar_nb.data.batch import PixelStore
from uar_nb.data.dicom import dicom_info, read_dicom, turn_of, view_in_words, view_of
from uar_nb.data.image import image_header, read_image
from uar_nb.data.iu_xray import load_iu_xray, save_iu_xray
from uar_nb.data.load import load_studies
from uar_nb.data.mimic import load_mimic, save_mimic
from uar_nb.data.study import (
    DataSetError,
    ViewHints,
    choose_view,
    choose_views,
    describe_studies,
    view_in_name,
    view_name,
)
from uar_nb.phantom.generator import make_studies

FRONTALS = Path(os.environ.get('UAR_DATA', 'UAR_DATA is not set')) / 'frontal'
SECRET = 'Zyxwv^Patient'


def chest(height=60, width=40):
    "An image with four different corners, taller than wide."
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return (300 + 2000 * x + 1500 * y + 200 * np.sin(9 * x * y)).astype(np.uint16)


def write_dicom(path, stored=None, **elements):
    "An uncompressed DICOM file; elements may be named that a patient's file has."
    pydicom = pytest.importorskip('pydicom')
    stored = np.ascontiguousarray(chest() if stored is None else stored)
    ds = pydicom.Dataset()
    ds.SOPClassUID = '1.2.840.10008.5.1.4.1.1.1.1'
    ds.SOPInstanceUID = '2.25.1'
    ds.PatientName = SECRET
    ds.Rows, ds.Columns = stored.shape
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = 'MONOCHROME2'
    ds.BitsAllocated = 16
    ds.BitsStored = 12
    ds.HighBit = 11
    ds.PixelRepresentation = 0
    ds.PixelData = stored.tobytes()
    ds['PixelData'].VR = 'OW'
    code = elements.pop('code', None)
    if code:
        item = pydicom.Dataset()
        for name, value in code.items():
            setattr(item, name, value)
        ds.ViewCodeSequence = [item]
    for name, value in elements.items():
        setattr(ds, name, value)
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = '1.2.840.10008.1.2.1'
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def write_png(path, seed=0):
    "An image of noise on a slope, different for each seed."
    noise = np.random.default_rng(seed).integers(0, 99, (128, 128))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((noise + np.arange(128)).astype(np.uint8)).save(path)
    return path


def views_of(studies):
    return {study.id: [view.name for view in study.views] for study in studies}


def notes_on_views(studies):
    return '\n'.join(studies.facts.texts('views'))


# %% Words

WORDS = {
    'frontal': (
        'PA',
        'ap',
        'P.A.',
        'A/P',
        'Thorax p.a.',
        'AP Supine',
        'AP_horizontal',
        'postero-anterior',
        'POSTEROANTERIOR',
        'frontal',
        'chestPA.png',
        'PA2.png',
        '1PA.dcm',
        'sub-S03_run-1_bp-chest_vp-ap_dx.png',
        'view1_frontal.jpg',
        'radiographie thorax de face',
        'AP decúbito supino',
        'CHEST (PORTABLE AP)',
        'portable chest',
    ),
    'lateral': (
        'LL',
        'RL',
        'LAT',
        'LLAT',
        'RLAT',
        'LATERAL',
        'left lateral',
        'XTABLE LATERAL',
        'W033 Thorax lat.',
        'ChestLateral2.dcm',
        'view2_lateral.jpg',
        'x_side.png',
        'Thorax seitlich',
        'Rx tórax perfil',
        'radiographie latérale',
        'radiographie late\u0301rale',
        'latero-laterale',
    ),
    'unknown': (
        'LLD',
        'RLD',
        'AP LLD',
        'PA RLD',
        'left lateral decubitus',
        'CHEST LAT DECUB',
        'AP AXIAL',
        'AP lordotic',
        'LPO',
        'RAO',
        'Oblique',
        'SWIMMERS',
    ),
    None: (
        '',
        'bilateral',
        'bilateral_effusion.png',
        'BiLateral.png',
        'bi-lateral infiltrates.png',
        'contralateral.png',
        'contra_lateral.png',
        'collateral vessels.png',
        'unilateral.png',
        'ipsilateral.png',
        'Laterality.png',
        'ImageLaterality=L',
        'left_side_effusion.png',
        'ap_window_mass.png',
        'PA catheter.png',
        'PA and lateral',
        'CHEST (PA AND LAT)',
        'frontal_and_lateral.png',
        'tórax PA y lateral',
        'x3PA9k.png',
        '02aa804e-bde0afdd-112c0b34-7bc16630.jpg',
        '1.2.840.113619.2.5.dcm',
        'LLL_pneumonia.png',
        'apron.png',
        'plateau.png',
        'paper.png',
        'L5 S1',
        'OTHER',
    ),
}


@pytest.mark.parametrize('view', WORDS)
def test_whole_words_tell_the_view(view):
    for text in WORDS[view]:
        assert view_in_words(text)[0] == view, text
    assert view_name('Frontal') == 'frontal' and view_name('ward') == 'ward'


def test_a_text_on_several_images_tells_nothing():
    for text in (
        'Chest, 2 views, lateral',
        'CHEST 2V LATERAL',
        'Two views: PA',
        'XXXX and lateral',
    ):
        assert view_in_words(text, of_exam=True) == (None, ''), text
        assert view_in_words(text)[0] is not None, text


def test_a_folder_that_is_nothing_but_a_view_tells_it():
    named = {
        'lateral/7.png': 'lateral',
        'PA/7.png': 'frontal',
        'set\\Lateral\\7.png': 'lateral',
        'lateral/7_frontal.png': 'frontal',  # the file's own name comes first
        'lateral/1/7.png': None,
        'bilateral/7.png': None,
        'cases of pa/7.png': None,
        'frontal and lateral/7.png': None,
        '/home/pat/x.png': None,
    }
    assert {name: view_in_name(name) for name in named} == named


# %% Headers

HEADERS = [
    (dict(ViewPosition='PA'), 'frontal', 'ViewPosition PA'),
    (dict(ViewPosition='LL'), 'lateral', 'ViewPosition LL'),
    (dict(ViewPosition='LAT'), 'lateral', 'ViewPosition LAT'),
    (dict(ViewPosition='LLAT'), 'lateral', 'ViewPosition LLAT'),
    (dict(ViewPosition='LLD'), 'unknown', 'ViewPosition LLD'),
    (dict(ViewPosition='RAO'), 'unknown', 'ViewPosition RAO'),
    (dict(code=dict(CodeMeaning='postero-anterior')), 'frontal', 'postero anterior'),
    (dict(code=dict(CodeValue='R-10236')), 'lateral', 'R-10236'),
    (dict(code=dict(CodeValue='399348003', CodeMeaning='')), 'frontal', '399348003'),
    (dict(ViewPosition='', SeriesDescription='Thorax lateral'), 'lateral', 'SeriesDescription'),
    (dict(ProtocolName='CHEST LAT'), 'lateral', 'ProtocolName LAT'),
    (dict(AcquisitionDeviceProcessingDescription='CHEST,PA'), 'frontal', 'Processing'),
    (dict(StudyDescription='XR CHEST AP PORTABLE'), 'frontal', 'StudyDescription AP'),
    (dict(BodyPartExamined='CHEST LAT'), 'lateral', 'BodyPartExamined LAT'),
    (dict(PatientOrientation=['A', 'F']), 'lateral', 'PatientOrientation A\\F'),
    (dict(PatientOrientation=['F', 'R']), 'frontal', 'PatientOrientation F\\R'),
    (dict(ViewPosition='OTHER', PatientOrientation=['L', 'F']), 'frontal', 'PatientOrientation'),
    # what is said of this image is believed before what is said of the examination
    (dict(PatientOrientation=['P', 'F'], StudyDescription='CHEST PA'), 'lateral', 'Patient'),
]
SILENT = [
    dict(),
    dict(ViewPosition=''),
    dict(ViewPosition='CHEST'),
    dict(StudyDescription='CHEST PA AND LATERAL'),
    dict(StudyDescription='CHEST 2 VIEWS'),
    dict(SeriesDescription='bilateral effusion'),
    dict(PatientOrientation=['L', 'P']),
    dict(Laterality='L', ImageLaterality='L'),
    dict(BodyPartExamined='CHEST'),
]


@pytest.mark.parametrize('elements, view, reason', HEADERS)
def test_a_header_tells_the_view_and_by_which_element(tmp_path, elements, view, reason):
    told = dicom_info(write_dicom(tmp_path / 'a.dcm', **elements)).told
    assert told.view == view and reason in told.reason and told.against == ()
    assert image_header(tmp_path / 'a.dcm').told == told
    choice = choose_view('x_frontal.dcm', told, 'frontal')
    assert choice[:2] == (view, 'header')
    assert bool(choice.against) == (view != 'frontal')


@pytest.mark.parametrize('elements', SILENT)
def test_a_silent_header_leaves_the_word_to_others(tmp_path, elements):
    info = dicom_info(write_dicom(tmp_path / 'a.dcm', **elements))
    assert info.told is None and info.view == 'unknown'


def test_a_header_that_contradicts_itself_says_so(tmp_path):
    path = write_dicom(
        tmp_path / 'set/a.dcm',
        ViewPosition='PA',
        SeriesDescription='LATERAL',
        StudyDescription='LL',
    )
    assert dicom_info(path).told.against == ('SeriesDescription lateral: lateral',)
    text = notes_on_views(load_studies(tmp_path / 'set'))
    assert 'disagrees for 1 images: a: a.dcm is frontal (header, ViewPosition PA)' in text


def test_nothing_of_a_description_gets_out(tmp_path):
    "Descriptions are parsed for the words of the view alone."
    path = write_dicom(
        tmp_path / 'set/a.dcm', StudyDescription=SECRET, SeriesDescription=f'{SECRET} lateral'
    )
    studies = load_studies(tmp_path / 'set')
    assert studies[0].views[0].name == 'lateral'
    assert 'Zyxwv' not in repr(dicom_info(path)) + describe_studies(studies)


def test_all_of_pydicoms_files_have_a_view_or_a_reason():
    pydicom = pytest.importorskip('pydicom')
    home = Path(pydicom.__file__).parent / 'data/test_files'
    views = set()
    for path in sorted(home.rglob('*.dcm')):
        try:
            header = image_header(path)
        except UARError:
            continue
        [choice] = choose_views([ViewHints(path.name, header.told)], by_order=False)
        views.add(choice.view)
        assert (choice.source == 'nothing') == (choice.view == 'unknown'), path
    assert 'unknown' in views


# %% Which way up


def seen_as(upright, rows, columns):
    "How a machine whose rows and columns run so stores an upright image (rows L or P, columns F)."
    start = {'L': (0, 1), 'R': (0, -1), 'P': (0, 1), 'A': (0, -1), 'F': (1, 0), 'H': (-1, 0)}
    (row_y, row_x), (column_y, column_x) = start[rows], start[columns]
    transposed = bool(row_y)
    stored = upright
    if (row_y + column_y) < 0:
        stored = stored[::-1]
    if (row_x + column_x) < 0:
        stored = stored[:, ::-1]
    return stored.T if transposed else stored


FRONTAL_WAYS = ['LF', 'RF', 'LH', 'RH', 'FL', 'FR', 'HL', 'HR']
LATERAL_WAYS = ['PF', 'AF', 'PH', 'AH', 'FP', 'FA', 'HP', 'HA']


@pytest.mark.parametrize('way', FRONTAL_WAYS)
def test_frontal_images_stand_with_the_patients_right_at_the_left(tmp_path, way):
    expected = read_dicom(write_dicom(tmp_path / 'upright.dcm', chest()))
    stored = seen_as(chest(), *way)
    path = write_dicom(tmp_path / 'a.dcm', stored, PatientOrientation=list(way))
    np.testing.assert_array_equal(read_dicom(path), expected)
    np.testing.assert_array_equal(read_image(path), read_image(tmp_path / 'upright.dcm'))
    info = dicom_info(path)
    assert (info.height, info.width) == expected.shape and info.view == 'frontal'
    names = dict(LF='', RF='mirrored', RH='turned', FR='turned', HL='turned')
    assert info.turned == names.get(way, 'turned and mirrored')


@pytest.mark.parametrize('way', LATERAL_WAYS)
def test_lateral_images_are_turned_upright_and_never_mirrored(tmp_path, way):
    stored = seen_as(chest(), *way)  # of an image P\F
    path = write_dicom(tmp_path / 'a.dcm', stored, PatientOrientation=list(way))
    got = read_dicom(path)
    turns = [np.rot90(read_dicom(write_dicom(tmp_path / 'b.dcm', stored)), k) for k in range(4)]
    assert any(turn.shape == got.shape and (turn == got).all() for turn in turns)
    upright = read_dicom(write_dicom(tmp_path / 'c.dcm', chest()))
    assert (got == upright).all() or (got == upright[:, ::-1]).all()  # P\F, or A\F
    assert dicom_info(path).turned == ('' if way in ('PF', 'AF') else 'turned')
    assert dicom_info(path).view == 'lateral'


@pytest.mark.parametrize(
    'orientation',
    [None, '', 'L', ['L', ''], ['L', 'R'], ['L', 'P'], ['LE', 'D'], ['X', 'F'], ['L', 'F', 'P']],
)
def test_what_names_no_upright_image_leaves_it_as_stored(tmp_path, orientation):
    elements = {} if orientation is None else dict(PatientOrientation=orientation)
    path = write_dicom(tmp_path / 'a.dcm', **elements)
    plain = read_dicom(write_dicom(tmp_path / 'b.dcm'))
    np.testing.assert_array_equal(read_dicom(path), plain)
    assert dicom_info(path).turned == ''


def test_slanted_directions_go_by_their_main_letter(tmp_path):
    path = write_dicom(tmp_path / 'a.dcm', chest()[:, ::-1], PatientOrientation=['RA', 'FP'])
    assert dicom_info(path).turned == 'mirrored'


def test_the_field_of_view_is_not_turned_twice(tmp_path):
    "FieldOfViewRotation and …HorizontalFlip say what was done before the pixels were stored."
    path = write_dicom(tmp_path / 'a.dcm', FieldOfViewRotation=90, FieldOfViewHorizontalFlip='YES')
    np.testing.assert_array_equal(read_dicom(path), read_dicom(write_dicom(tmp_path / 'b.dcm')))


def test_a_turn_is_undone_by_its_inverse():
    "Eight ways to store a frontal image, eight different turns."
    turns = {turn_of('\\'.join(way)) for way in FRONTAL_WAYS}
    assert len(turns) == 8


UNTURN = {  # EXIF orientation: how an upright image is stored with it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize('suffix', ['png', 'jpg'])
@pytest.mark.parametrize('number', UNTURN)
def test_exif_orientation_is_obeyed_and_told(tmp_path, number, suffix):
    upright = Image.fromarray((chest(120, 80) // 16).astype(np.uint8))
    exif = Image.Exif()
    exif[274] = number
    folder = tmp_path / 'set'
    folder.mkdir()
    path = folder / f'a.{suffix}'
    upright.transpose(UNTURN[number]).save(path, exif=exif, quality=100)
    upright.save(tmp_path / f'b.{suffix}', quality=100)
    difference = read_image(path).astype(int) - read_image(tmp_path / f'b.{suffix}')
    assert np.abs(difference).max() <= 2
    assert image_header(path)[1:3] == (80, 120)
    notes = load_studies(folder).facts.texts('turned')
    assert notes == (
        f'1 images are made upright as their files say: a.{suffix} ({image_header(path).turned})',
    )


@pytest.mark.filterwarnings('ignore:Corrupt EXIF')
@pytest.mark.parametrize('suffix', ['png', 'jpg'])
@pytest.mark.parametrize(
    'exif',
    [
        b'Exif\0\0nonsense',
        b'Exif\0\0II*\0\x08\0\0\0\xff\xff',
        b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0',
    ],
)
def test_an_exif_that_is_nonsense_turns_nothing(tmp_path, exif, suffix):
    plain = Image.fromarray((chest(128, 128) // 16).astype(np.uint8))
    plain.save(tmp_path / f'a.{suffix}', exif=exif, quality=100)
    plain.save(tmp_path / f'b.{suffix}', quality=100)
    assert image_header(tmp_path / f'a.{suffix}').turned == ''
    assert (read_image(tmp_path / f'a.{suffix}') == read_image(tmp_path / f'b.{suffix}')).all()


# %% One decision


def told(**texts):
    return view_of(texts)


STUDIES = [
    # images of a study as (name, header, table), their views
    ([('a.png', None, None)], ['frontal']),
    ([('a.png', None, None), ('b.png', None, None)], ['frontal', 'lateral']),
    ([(f'{i}.png', None, None) for i in range(4)], ['frontal', 'lateral', 'unknown', 'unknown']),
    ([('a.dcm', told(ViewPosition='LL'), None), ('b.png', None, None)], ['lateral', 'frontal']),
    ([('a_lateral.png', None, None), ('b.png', None, None)], ['lateral', 'frontal']),
    ([('a.png', None, 'LL'), ('b.png', None, None)], ['lateral', 'frontal']),
    ([('PA.png', None, None), ('AP.png', None, None)], ['frontal', 'frontal']),
    (
        [('PA.png', None, None), ('AP.png', None, None), ('x.png', None, None)],
        ['frontal', 'frontal', 'lateral'],
    ),
    ([('a.png', None, None), ('LLD.png', None, None)], ['frontal', 'unknown']),
    ([('x_lateral.png', told(ViewPosition='PA'), 'lateral')], ['frontal']),
    ([('x_lateral.png', None, 'PA')], ['frontal']),
    ([('x_lateral.png', None, 'unknown')], ['unknown']),
    ([('x_frontal.dcm', told(ViewPosition='LLD'), 'frontal')], ['unknown']),
]


@pytest.mark.parametrize('images, views', STUDIES)
def test_the_surest_witness_is_believed(images, views):
    hints = [ViewHints(*image) for image in images]
    assert [choice.view for choice in choose_views(hints)] == views
    sure = [choice.source not in ('order', 'nothing') for choice in choose_views(hints)]
    if sum(not known for known in sure) <= 1:  # then the order of the images means nothing
        assert [choice.view for choice in choose_views(hints[::-1])] == views[::-1]


# %% Data sets


def write_set(home, layout, studies):
    "Studies {id: [(file, word of the table or None), …]} in a layout of one's own."
    if layout == 'table':
        rows = [['id', 'image', 'view', 'report']]
        rows += [
            [id, name, word or '', 'Clear.'] for id, some in studies.items() for name, word in some
        ]
        with open(home / 'reports.csv', 'w', newline='') as file:
            csv.writer(file).writerows(rows)
        return home / 'reports.csv'
    if layout == 'table of cells':
        lines = ['id,images,view,report']
        for id, some in studies.items():
            names, words = zip(*some, strict=True)
            lines.append(f'{id},{";".join(names)},{";".join(word or "" for word in words)},Clear.')
        (home / 'reports.csv').write_text('\n'.join(lines))
        return home / 'reports.csv'
    entries = []
    for id, some in studies.items():
        entry = dict(id=id, report='Clear.', image_path=[name for name, _ in some], split='train')
        if any(word for _, word in some):
            entry['views'] = [word for _, word in some]
        entries.append(entry)
    if layout == 'lines':
        (home / 'reports.jsonl').write_text('\n'.join(map(json.dumps, entries)))
        return home / 'reports.jsonl'
    (home / 'annotation.json').write_text(json.dumps(dict(train=entries)))
    return home / 'annotation.json'


@pytest.mark.parametrize('layout', ['table', 'table of cells', 'lines', 'annotation'])
def test_every_layout_decides_alike_and_says_so(tmp_path, layout):
    images = tmp_path / 'images'
    write_dicom(images / 'a1.dcm', ViewPosition='LL')
    write_dicom(images / 'a2.dcm', chest()[::-1], ViewPosition='PA')
    write_dicom(images / 'd.dcm', ViewPosition='LLD', PatientOrientation=['R', 'F'])
    for seed, name in enumerate(['b1_lateral.png', 'b2.png', 'c1.png', 'c2.png', 'e.png']):
        write_png(images / name, seed)
    file = write_set(
        tmp_path,
        layout,
        dict(
            A=[('a1.dcm', None), ('a2.dcm', 'lateral')],
            B=[('b1_lateral.png', None), ('b2.png', None)],
            C=[('c1.png', None), ('c2.png', None)],
            D=[('d.dcm', None)],
            E=[('e.png', 'RAO')],
        ),
    )
    studies = load_studies(file, images=images)
    assert views_of(studies) == dict(
        A=['lateral', 'frontal'],
        B=['lateral', 'frontal'],
        C=['frontal', 'lateral'],
        D=['unknown'],
        E=['unknown'],
    )
    text = notes_on_views(studies)
    assert (
        'views of 8 images: 3 by the header, 1 by the table, 1 by the name, 3 by their order'
        in text
    )
    assert '2 images are neither frontal nor lateral (ViewPosition LLD 1, RAO 1)' in text
    assert 'disagrees for 1 images: A: a2.dcm is frontal (header, ViewPosition PA)' in text
    assert 'but table, lateral: lateral' in text
    assert '1 images are made upright as their files say: d.dcm (mirrored)' in studies.facts.texts()
    assert 'note:    views of 8 images' in describe_studies(studies)


@pytest.mark.parametrize('layout', ['table', 'table of cells', 'lines', 'annotation'])
def test_where_the_table_tells_all_there_is_nothing_to_say(tmp_path, layout):
    write_png(tmp_path / 'images/1.png', 1), write_png(tmp_path / 'images/2.png', 2)
    file = write_set(tmp_path, layout, dict(A=[('1.png', 'Lateral'), ('2.png', 'PA')]))
    studies = load_studies(file, images=tmp_path / 'images')
    assert views_of(studies) == dict(A=['lateral', 'frontal'])
    assert notes_on_views(studies) == ''


@pytest.mark.parametrize('word', ['upside', 'PA and lateral', 'left'])
@pytest.mark.parametrize('layout', ['table', 'lines', 'annotation'])
def test_a_word_that_names_no_view_is_a_fault(tmp_path, layout, word):
    write_png(tmp_path / 'images/1.png')
    file = write_set(tmp_path, layout, dict(A=[('1.png', word)]))
    with pytest.raises(DataSetError, match='does not name one of frontal, lateral, unknown'):
        load_studies(file, images=tmp_path / 'images')


def test_more_words_than_images_are_a_fault(tmp_path):
    write_png(tmp_path / 'images/1.png')
    (tmp_path / 'reports.csv').write_text('id,image,view,report\nA,1.png,PA;LL,Clear.\n')
    with pytest.raises(DataSetError, match='for each image'):
        load_studies(tmp_path / 'reports.csv')


def test_images_alone(tmp_path):
    home = tmp_path / 'set'
    write_dicom(home / 'a.dcm', SeriesDescription='Chest lat')
    for seed, name in enumerate(['lateral/1.png', 'bilateral.png', 'x LLD.png', 'PA.png']):
        write_png(home / name, seed)
    studies = load_studies(home)
    assert views_of(studies) == {
        'a': ['lateral'],
        'lateral/1': ['lateral'],
        'bilateral': ['frontal'],
        'x LLD': ['unknown'],
        'PA': ['frontal'],
    }
    assert '1 by the header, 3 by the name, 1 by their order' in notes_on_views(studies)


def test_unread_headers_are_not_asked(tmp_path):
    "Without a look at the images the name and the order decide, and the note says it."
    write_dicom(tmp_path / 'images/a.dcm', ViewPosition='LL')
    file = write_set(tmp_path, 'table', dict(A=[('a.dcm', None)]))
    assert views_of(load_studies(file)) == dict(A=['lateral'])
    for check in (False, 'exists'):
        studies = load_studies(file, images=tmp_path / 'images', check=check)
        assert views_of(studies) == dict(A=['frontal'])
        assert '1 by their order, a guess' in notes_on_views(studies)
        assert 'headers of 1 DICOM files were not read (check=True' in notes_on_views(studies)


def test_a_store_of_images_read_by_older_rules_is_made_anew(tmp_path, monkeypatch):
    "Else a data set would keep the mirrored images of an earlier version."
    path = write_dicom(tmp_path / 'set/a.dcm', PatientOrientation=['R', 'F'])
    studies = load_studies(path.parent)
    monkeypatch.setattr(batch, 'READING', 1)
    PixelStore.build(studies, folder=tmp_path / 'store')
    PixelStore.build(studies, folder=tmp_path / 'store', create=False)
    monkeypatch.undo()
    with pytest.raises(UARError, match='no store of these images'):
        PixelStore.build(studies, folder=tmp_path / 'store', create=False)


# %% The public sets

MIMIC_WORDS = {
    'frontal': ['PA', 'AP'],
    'lateral': ['LL', 'LATERAL', 'XTABLE LATERAL'],
    'unknown': 'AP LLD|AP RLD|PA LLD|PA RLD|AP AXIAL|LPO|RPO|LAO|RAO|SWIMMERS|L5 S1|'.split('|'),
}


def test_mimic_knows_all_words_of_its_table(tmp_path):
    "Each value of ViewPosition that MIMIC-CXR has, one per study, beside a PA image."
    words = [word for some in MIMIC_WORDS.values() for word in some]
    made = make_studies(len(words), 3)
    home = save_mimic(made, tmp_path / 'set')
    meta = home / 'mimic-cxr-2.0.0-metadata.csv.gz'
    head, *rows = gzip.decompress(meta.read_bytes()).decode().splitlines()
    for i, word in enumerate(words):  # the second image of each study
        cells = rows[2 * i + 1].split(',')
        cells[4], cells[7] = word, ''
        rows[2 * i + 1] = ','.join(cells)
    meta.write_bytes(gzip.compress('\n'.join([head, *rows]).encode()))
    seconds = {
        word: [view.name for view in study.views][-1]
        for word, study in zip(words, load_mimic(home, views='all'), strict=True)
    }
    assert seconds == {word: view for view, some in MIMIC_WORDS.items() for word in some}
    both = load_mimic(home, views='both')
    assert len(both) == len(words)
    text = notes_on_views(both)
    assert f'{len(MIMIC_WORDS["unknown"])} images of no plain view are not used' in text
    assert 'ViewPosition RAO 1' in text and 'no view named 2' in text and "views='all'" in text


def test_mimic_says_which_images_its_metadata_lack(tmp_path):
    home = save_mimic(make_studies(2, 3), tmp_path / 'set')
    meta = home / 'mimic-cxr-2.0.0-metadata.csv.gz'
    rows = gzip.decompress(meta.read_bytes()).decode().splitlines()
    meta.write_bytes(gzip.compress('\n'.join(rows[:-1]).encode()))
    studies = load_mimic(home, views='both')
    assert [len(study.views) for study in studies] == [2, 1]
    assert any('1 images are not in the metadata' in text for text in studies.facts.texts())


def test_mimic_dicom_headers_are_read_like_all_others(tmp_path):
    pydicom = pytest.importorskip('pydicom')
    home = save_mimic(make_studies(2, 3), tmp_path / 'set', 'dcm')
    (home / 'mimic-cxr-2.0.0-metadata.csv.gz').unlink()
    paths = sorted(home.rglob('*.dcm'))
    for path, description in zip(paths, ['Chest PA', 'lateral', 'lat', 'frontal'], strict=True):
        ds = pydicom.dcmread(path)
        ds.SeriesDescription = description
        ds.save_as(path)
    studies = load_mimic(home, views='both')
    assert sorted(view.name for study in studies for view in study.views) == [
        'frontal',
        'frontal',
        'lateral',
        'lateral',
    ]
    assert 'views of 4 images: 4 by the header' in notes_on_views(studies)


def test_iu_xray_reads_captions_with_the_same_words(tmp_path):
    "Of a report with one image; a caption of several images tells nothing."
    [study] = make_studies(1, 3)
    image = replace(study.views[0], name='unknown')
    home = save_iu_xray([replace(study, views=(image,))], tmp_path / 'set')
    [file] = home.rglob('*.xml')
    plain = file.read_text()
    assert '<caption />' in plain
    for caption, view in {
        'Chest, lateral': 'lateral',
        'Portable chest': 'frontal',
        'Bilateral effusion': 'unknown',
        'Left lateral decubitus': 'unknown',
        'Chest, 2 views, lateral': 'unknown',
        'PA and lateral': 'unknown',
    }.items():
        file.write_text(plain.replace('<caption />', f'<caption>{caption}</caption>'))
        [read] = load_iu_xray(home, split=1, least=1)
        assert [view.name for view in read.views] == [view], caption


# %% Real images


@pytest.mark.skipif(not FRONTALS.is_dir(), reason='UAR_DATA names no folder with frontal/')
def test_all_real_frontals_are_frontal(tmp_path):
    "By their names and order, and by the words of the manifest (PA, AP, AP Supine, or none)."
    with open(FRONTALS / 'manifest.csv', newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 360
    alone = load_studies(FRONTALS / 'images')
    assert {study.views[0].name for study in alone} == {'frontal'} and len(alone) == 360
    assert 'views of 360 images: ' in notes_on_views(alone)
    words = {str(i): [(row['image'], row['view'])] for i, row in enumerate(rows)}
    file = write_set(tmp_path, 'table', words)
    studies = load_studies(file, images=FRONTALS)
    assert {view.name for study in studies for view in study.views} == {'frontal'}
    named = sum(bool(row['view']) for row in rows)
    assert f'{named:,} by the table' in notes_on_views(studies)
    assert 'disagrees' not in notes_on_views(studies)
