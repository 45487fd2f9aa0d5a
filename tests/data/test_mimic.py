"""MIMIC-CXR: what is written in PhysioNet's layout is read back; findings are found under
headers as people type them; every fault is told."""

import gzip
import itertools
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uar_nb.core import UARError
from uar_nb.data.mimic import find_mimic, find_sections, load_mimic, report_findings, save_mimic
from uar_nb.data.study import DataSetError, Study, View
from uar_nb.phantom.generator import make_studies

TEXT = 'The heart is normal. Mild infiltrate in the left upper zone. No effusion.'
SPLIT, META = 'mimic-cxr-2.0.0-split.csv.gz', 'mimic-cxr-2.0.0-metadata.csv.gz'


@pytest.fixture(scope='module')
def phantoms():
    return [
        s
        for i, split in enumerate(('train', 'val', 'test'))
        for s in make_studies(4 - i, seed=3, split=split)
    ]


@pytest.fixture
def copy(tmp_path, phantoms):
    return save_mimic(phantoms, tmp_path / 'mimic')


def edit(file, change):
    file.write_bytes(gzip.compress(change(gzip.decompress(file.read_bytes()).decode()).encode()))


def faults(function, *args, **options):
    with pytest.raises(DataSetError) as e:
        function(*args, **options)
    assert all(where and what and remedy for where, _, what, remedy in e.value.faults)
    return e.value.faults


# %% Round trip


@pytest.mark.parametrize('images', ['jpg', 'dcm'])
def test_phantoms_come_back(tmp_path, phantoms, images):
    if images == 'dcm':
        pytest.importorskip('pydicom')
    home = save_mimic(phantoms, tmp_path / 'set', images)
    back = load_mimic(home, check=True, views='both')
    assert [(s.report, s.split, [v.name for v in s.views]) for s in back] == [
        (s.report, s.split, [v.name for v in s.views]) for s in phantoms
    ]
    assert not back.left_out and len({s.patient for s in back}) == len(
        {s.patient for s in phantoms}
    )
    for s, b in zip(phantoms, back, strict=True):
        for v, w in zip(s.views, b.views, strict=True):
            difference = np.abs(v.image().astype(int) - w.image())
            assert difference.max() <= (2 if images == 'jpg' else 0)
            assert difference.mean() < 0.3
    frontal = load_mimic(home)
    assert [[v.name for v in s.views] for s in frontal] == [['frontal']] * len(phantoms)
    assert all(
        re.fullmatch(
            r'files/p1\d/p1\d{7}/s5\d{7}/[0-9a-f]{8}(-[0-9a-f]{8}){4}\.' + images,
            v.path.relative_to(home).as_posix(),
        )
        for s in back
        for v in s.views
    )


def test_written_twice_is_the_same_and_written_back_keeps_ids(tmp_path, phantoms, copy):
    again = save_mimic(phantoms, tmp_path / 'again')
    files = sorted(p.relative_to(copy) for p in copy.rglob('*') if p.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob('*') if p.is_file())
    assert all((copy / f).read_bytes() == (again / f).read_bytes() for f in files)
    back = load_mimic(copy, views='both')
    third = load_mimic(save_mimic(back, tmp_path / 'third'), views='both')
    assert [(s.id, s.patient, s.report) for s in third] == [
        (s.id, s.patient, s.report) for s in back
    ]


def test_writing_is_all_or_nothing(tmp_path, phantoms):
    for wrong in (
        Study('x', phantoms[0].views, ''),
        Study('x', phantoms[0].views, 'Clear.\nIMPRESSION: none.'),
        Study('x', (View('frontal', tmp_path / 'gone.png'),), TEXT),
    ):
        with pytest.raises(UARError):
            save_mimic([*phantoms, wrong], tmp_path / 'half')
        assert not list(tmp_path.iterdir())


# %% Layouts of the disk


def loaded(*args, **options):
    return [(s.id, s.report, s.split) for s in load_mimic(*args, **options)]


def test_reports_at_every_usual_place(tmp_path, copy):
    expected, archive = loaded(copy), copy / 'mimic-cxr-reports.zip'
    for place in (
        'mimic-cxr-reports',
        'reports',
        '.',
        '../mimic-cxr',
        '../mimic-cxr/mimic-cxr-reports',
    ):
        zipfile.ZipFile(archive).extractall(copy / place)
        moved = archive.rename(tmp_path / 'away.zip')
        assert loaded(copy) == expected, place
        moved.rename(archive)
        if place == '.':
            [p.unlink() for p in copy.rglob('*.txt')]
        else:
            shutil.rmtree(copy / place)
    moved = archive.rename(tmp_path / 'elsewhere.zip')
    assert loaded(copy, reports=moved) == expected
    with pytest.raises(UARError, match='mimic-cxr-reports.zip'):
        load_mimic(copy)


def test_unpacked_tables_version_folders_and_smaller_images(tmp_path, copy):
    expected = loaded(copy)
    for name in (SPLIT, META):
        (copy / name[:-3]).write_bytes(gzip.decompress((copy / name).read_bytes()))
        (copy / name).unlink()
    assert loaded(copy) == loaded(copy / SPLIT[:-3]) == expected
    (tmp_path / 'physionet').mkdir()
    copy.rename(tmp_path / 'physionet/2.1.0')
    assert loaded(tmp_path / 'physionet') == expected
    (tmp_path / 'physionet/2.1.0/files').rename(tmp_path / 'small')
    assert len(
        load_mimic(tmp_path / 'physionet', check='exists', images=tmp_path / 'small')
    ) == len(expected)


def test_the_dicom_version_takes_views_from_the_headers(tmp_path, phantoms):
    pydicom = pytest.importorskip('pydicom')
    home = save_mimic(phantoms, tmp_path / 'set', 'dcm')
    expected = load_mimic(home, views='both')
    positions = {
        row.split(',')[0]: row.split(',')[4]
        for row in gzip.decompress((home / META).read_bytes()).decode().splitlines()[1:]
    }
    for path in home.rglob('*.dcm'):
        ds = pydicom.dcmread(path)
        ds.ViewPosition = positions[path.stem]
        ds.save_as(path)
    rows = gzip.decompress((home / SPLIT).read_bytes()).decode().splitlines()[1:]
    records = '\n'.join(
        [
            'subject_id,study_id,dicom_id,path',
            *(f'{s},{t},{d},x' for d, t, s, _ in (r.split(',') for r in rows)),
        ]
    )
    (home / 'cxr-record-list.csv.gz').write_bytes(gzip.compress(records.encode()))
    for name in (SPLIT, META):
        (home / name).unlink()
    back = load_mimic(home, views='both')
    assert [(s.id, [v.name for v in s.views]) for s in back] == [
        (s.id, [v.name for v in s.views]) for s in expected
    ]
    assert (
        back.layout == 'MIMIC-CXR, DICOM'
        and {s.split for s in back} == {'train'}
        and 'no split file: all studies are in train' in back.facts.texts()
    )
    drawn = load_mimic(home, split=5)
    assert len({s.split for s in drawn}) > 1


# %% What is an example


def test_views_units_and_splits(tmp_path, copy):
    "A second frontal image, a decubitus view, and a study with a lateral image alone."
    rows = gzip.decompress((copy / META).read_bytes()).decode().splitlines()
    frontal = [i for i, r in enumerate(rows) if ',PA,' in r]
    lateral = [i for i, r in enumerate(rows) if ',LL,' in r]
    rows[lateral[0]] = (
        rows[lateral[0]].replace(',LL,', ',AP,').replace('left lateral', 'antero-posterior')
    )
    rows[lateral[1]] = rows[lateral[1]].replace(',LL,', ',AP LLD,').replace('left lateral', '')
    rows[frontal[2]] = (
        rows[frontal[2]].replace(',PA,', ',LATERAL,').replace('postero-anterior', 'lateral')
    )
    (copy / META).write_bytes(gzip.compress('\n'.join(rows).encode()))

    def names(**o):
        return [[v.name for v in s.views] for s in load_mimic(copy, **o)]

    assert names()[:3] == [['frontal', 'frontal'], ['frontal'], ['frontal']] and len(names()) == 8
    assert names(views='both')[:2] == [['frontal', 'frontal'], ['frontal']]
    assert names(views='all')[:3] == [
        ['frontal', 'frontal'],
        ['frontal', 'unknown'],
        ['lateral', 'lateral'],
    ]
    by_image = load_mimic(copy, unit='picture')
    assert (
        len(by_image) == 9
        and by_image[0].report == by_image[1].report
        and by_image[0].id == by_image[0].views[0].path.stem
    )
    assert load_mimic(copy).left_out == (('s50000003', 'no frontal image'),)


def test_failures_are_counted_by_reason(copy):
    with zipfile.ZipFile(copy / 'mimic-cxr-reports.zip') as z:
        reports = {n: z.read(n).decode() for n in z.namelist()}
    names = list(reports)
    reports[names[0]] = reports[names[0]].replace('FINDINGS:', 'SOMETHING:')
    reports[names[1]] = reports[names[1]].replace('FINDINGS:', 'FINDINGS AND IMPRESSION:')
    reports[names[2]] = '\n'
    reports[names[3]] = reports[names[3]].encode('utf-16')
    del reports[names[4]]
    with zipfile.ZipFile(copy / 'mimic-cxr-reports.zip', 'w') as z:
        for n, text in reports.items():
            z.writestr(n, text)
    studies = load_mimic(copy)
    assert [reason for _, reason in studies.left_out] == [
        'IMPRESSION but no FINDINGS',
        'report is empty',
        'report is not UTF-8 text',
        'no report file',
    ]
    assert (
        '1 texts under one header for findings and impression' in studies.facts.texts()
        and len(studies) == 5
    )


# %% Faults


def test_all_faults_together(copy):
    edit(
        copy / SPLIT,
        lambda t: (
            '\n'.join(
                [
                    *t.splitlines()[:3],
                    t.splitlines()[1],
                    'x,y',
                    '../../a,50000001,10000001,train',
                    t.splitlines()[4].rsplit(',', 1)[0] + ',dev',
                ]
            )
            + '\n'
        ),
    )
    edit(copy / META, lambda t: t.replace('ViewPosition', 'Position'))
    told = faults(load_mimic, copy)
    assert [(Path(f).name, field) for f, field, *_ in told] == [
        (SPLIT, 'line 4, dicom_id'),
        (SPLIT, 'line 5'),
        (SPLIT, 'line 6'),
        (SPLIT, 'line 7, split'),
        (META, 'column ViewPosition'),
    ]


@pytest.mark.parametrize(
    'harm',
    [
        lambda p: p.write_bytes(p.read_bytes()[:-20]),
        lambda p: p.write_bytes(b'not gzip'),
        lambda p: p.write_bytes(gzip.compress(b'\xff\xfe\x00')),
        lambda p: p.write_bytes(b''),
        lambda p: p.unlink(),
    ],
)
@pytest.mark.parametrize('name', [SPLIT, META])
def test_damaged_tables(copy, name, harm):
    harm(copy / name)
    told = faults(load_mimic, copy)
    assert any(Path(f).name == name for f, *_ in told)


def test_missing_and_damaged_images_only_where_asked(copy):
    images = sorted(copy.rglob('*.jpg'))
    images[0].unlink(), images[3].write_text('not an image')
    assert len(load_mimic(copy, views='both')) == 9
    assert len(faults(load_mimic, copy, check='exists', views='both')) == 1
    assert len(faults(load_mimic, copy, check=True, views='both')) == 2


def test_damaged_archive(copy):
    archive = copy / 'mimic-cxr-reports.zip'
    archive.write_bytes(archive.read_bytes()[:100])
    with pytest.raises(UARError, match='archive of reports'):
        load_mimic(copy)


def test_no_look_at_the_disk_for_each_image(copy, monkeypatch):
    "Opening the set asks for at most 60 images, however many there are."
    asked = []
    for name in ('is_file', 'exists', 'stat'):
        real = getattr(Path, name)
        monkeypatch.setattr(
            Path,
            name,
            lambda self, *a, _real=real, **k: (asked.append(self), _real(self, *a, **k))[1],
        )
    load_mimic(copy, views='both')
    assert (
        len([p for p in asked if p.suffix in ('.jpg', '.dcm', '.png')]) <= 60 and len(asked) < 200
    )


def test_options_and_strangers(tmp_path, copy):
    for options in (dict(text='all'), dict(views='lateral'), dict(unit='visit')):
        with pytest.raises(UARError, match='known'):
            load_mimic(copy, **options)
    assert find_mimic(tmp_path / 'nowhere') is None
    with pytest.raises(UARError, match='no copy of MIMIC-CXR'):
        load_mimic(tmp_path)


# %% Sections

HEADERS = {
    'FINDINGS:': 1,
    'Findings:': 1,
    'findings:': 1,
    'FINDINGS :': 1,
    'FINDING:': 1,
    'FINDNGS:': 1,
    'FINDINGS AND IMPRESSION:': 1,
    'FINDINGS/IMPRESSION:': 1,
    'Findings and Impression:': 1,
    'IMPRESSION AND FINDINGS:': 1,
    'PORTABLE AP CHEST:': 1,
    'PA AND LATERAL VIEWS OF THE CHEST:': 1,
    'FINDINGS\n': 1,
    'COMMENT:': 0,
    'IMPRESSION:': 0,
    '': 0,
}


@pytest.mark.parametrize(
    'header, before, after',
    list(
        itertools.product(
            HEADERS,
            [
                '',
                ' INDICATION: Phantom.\n\n',
                ' WET READ: 3:24 PM\n None.\n ________________\n                FINAL REPORT\n',
            ],
            ['', '\n\n IMPRESSION: None.', '\n NOTIFICATION: None.'],
        )
    ),
)
def test_headers(header, before, after):
    text, note = report_findings(f'{before} {header} {TEXT}{after}')
    assert text == (TEXT if HEADERS[header] else '') and (text or note)


@settings(deadline=None, max_examples=150)
@given(st.text(alphabet='abcdefgh .,;:-_()0123456789\n\tFINDGSMPRO', max_size=300))
def test_any_text(report):
    "No exception, no word lost or made up."
    sections = find_sections(report)
    words = re.sub(r'_{6,}', ' ', report).split()
    kept = ' '.join(s.text for s in sections).split()
    assert len(kept) <= len(words) and not any('\n' in s.text for s in sections)
    rest = iter(''.join(words))
    assert all(c in rest for c in ''.join(kept))  # in the order of the report


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6))
def test_every_phantom_report_survives_its_file(seed):
    from uar_nb.data.mimic import _as_report

    (study,) = make_studies(1, seed=seed)
    report = _as_report(study)
    assert (
        report_findings(report) == (study.report, '')
        and report_findings(report, 'impression')[0] == 'See above.'
    )
    assert report_findings(report.replace('\n', '\r\n'))[0] == study.report
