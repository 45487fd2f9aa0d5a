"""Numbers that were text: tables are read as they are written; where two forms of one number
meet, somebody is told; what a spreadsheet lost is a fault."""

import gzip
import json

import pytest

from careless import KAGGLE, faults, images, write_table
from uar_nb.data.load import load_studies, save_studies
from uar_nb.data.study import DataSetError, number_form, spreadsheet_damage
from uar_nb.phantom.generator import make_studies


def table_of(folder, ids, patients=None):
    "A table of studies that differ in id and patient."
    patients = patients or [''] * len(ids)
    names = [f'x{i}.png' for i in range(len(ids))]
    images(folder, names)
    rows = [
        [id, name, f'Clear {name}.', patient]
        for id, name, patient in zip(ids, names, patients, strict=True)
    ]
    return write_table(folder, ['id', 'image', 'report', 'patient'], rows)


def test_forms_of_a_number():
    assert {number_form(text) for text in ('7', '007', '7.0', '7.00', '07.0')} == {'7'}
    for text in ('7.5', 'p7', '', '1,000', '1e5', '-7', '7.', '٧', '1_000', ' 7'):
        assert number_form(text) is None, text
    assert number_form('000') == '0'


DAMAGED = [
    '1.23457E+11', '1.2e+17', '1E+05', '1,23457E+11', '12-Mar', 'Mar-24', '2024-03-12 00:00:00',
]  # fmt: skip
SOUND = ['123456789012', '5e10', '3E-12', '12e45678', 'MAR-12', '2024-03-12', '1.2.840.10008', '7']


def test_what_a_spreadsheet_does_is_told_from_what_people_write():
    assert [text for text in DAMAGED if not spreadsheet_damage(text)] == []
    assert [text for text in SOUND if spreadsheet_damage(text)] == []


def test_ids_stay_as_they_are_written(tmp_path):
    ids = ['007', '12.0', '1e5', '0x1F', '1_000', '٣', '123456789012345678901', 'TRUE', '+5']
    studies = load_studies(table_of(tmp_path, ids, ids))
    assert [s.id for s in studies] == [s.patient for s in studies] == ids
    assert not studies.facts.texts('ids')


def test_two_forms_of_one_number_are_told(tmp_path):
    ids, patients = ['7', '007', '12', '12.0', 'x'], ['1', '1.0', '01', '2', '2']
    studies = load_studies(table_of(tmp_path, ids, patients))
    assert len(studies) == 5 and len({s.patient for s in studies}) == 4
    of_ids, of_patients = studies.facts.texts('ids')
    assert of_ids.startswith("2 numbers stand among the ids in more than one form: '7' and '007'")
    assert of_patients.startswith('1 numbers stand among the patients in more than one form')
    assert "'1', '1.0' and '01'" in of_patients


@pytest.mark.parametrize('text', DAMAGED)
def test_a_damaged_id_is_a_fault_with_a_remedy(text, tmp_path):
    (fault,) = faults(table_of(tmp_path, [text, 'B']))
    assert fault.field == 'line 2, id' and text in fault.what and 'as text' in fault.remedy
    once = faults(table_of(tmp_path, ['A', 'B', 'C'], [text, text, text]))
    assert [f.field for f in once] == ['line 2, patient']  # said once of each


def test_fifteen_digits_are_told(tmp_path):
    "What a sheet leaves of numbers of 17 digits: zeros at the end."
    lost = ['12345678901234500', '98765432109876500']
    (note,) = load_studies(table_of(tmp_path, lost)).facts.texts('ids')
    assert note.startswith('all 2 ids of more than 15 digits end in zeros')
    sound = ['12345678901234500', '98765432109876543']
    assert not load_studies(table_of(tmp_path, sound)).facts.texts('ids')


def test_numbers_of_json(tmp_path):
    "As pandas writes them: whole numbers with .0, where another row has none."
    images(tmp_path, ['a.png', 'b.png', 'c.png', 'd.png'])
    entries = [
        dict(id=7, image='a.png', report='a', patient=12),
        dict(id='007', image='b.png', report='b', patient='12'),
        dict(id=8.0, image='c.png', report='c', patient=12.0),
        dict(id='8', image='d.png', report='d', subject_id=13),
    ]
    file = tmp_path / 'reports.jsonl'
    file.write_text('\n'.join(map(json.dumps, entries)))
    studies = load_studies(file)
    assert [(s.id, s.patient) for s in studies] == [
        ('7', '12'), ('007', '12'), ('8.0', '12.0'), ('8', '13'),
    ]  # fmt: skip
    of_ids, of_patients = studies.facts.texts('ids')
    assert "'7' and '007'; '8.0' and '8'" in of_ids and "'12' and '12.0'" in of_patients
    for wrong in (True, 1.5, [1], {'a': 1}):
        entries[0]['id'] = wrong
        entries[1]['patient'] = wrong
        file.write_text('\n'.join(map(json.dumps, entries)))
        assert [(f.field, f.what) for f in faults(file)] == [
            ('line 1.id', 'is not a text'),
            ('line 2.patient', 'is not a text'),
        ]
    file.write_text('{"id": 1.23457E+19, "image": "a.png", "report": "a", "split": "train"}')
    assert 'short form' in faults(file)[0].what


def test_blanks_around_an_id_are_none_of_it(tmp_path):
    images(tmp_path, ['a.png', 'b.png'])
    entries = [
        dict(id='A ', image='a.png', report='a', patient='p1'),
        dict(id=' A', image='b.png', report='b', patient='p1\u00a0'),
    ]
    file = tmp_path / 'reports.jsonl'
    file.write_text(json.dumps(entries[0]))
    assert load_studies(file)[0].id == 'A'
    file.write_text('\n'.join(map(json.dumps, entries)))
    assert 'was used before' in faults(file)[0].what


def kaggle(folder, uids, files):
    rows = [[uid, '', '', '', '', '', f'Clear {uid}.', ''] for uid in uids]
    write_table(folder, KAGGLE, rows, 'indiana_reports.csv')
    header = ['uid', 'filename', 'projection']
    write_table(folder, header, files, 'indiana_projections.csv')
    return folder


def files_of(uid, number=None):
    number = number or uid
    return [
        [uid, f'{number}_IM-0001-1001.dcm.png', 'Frontal'],
        [uid, f'{number}_IM-0001-2001.dcm.png', 'Lateral'],
    ]


def test_kaggles_tables_meet_by_a_number(tmp_path):
    "A table that a program wrote anew has 12.0; one of a spreadsheet's has lost its zeros."
    good = kaggle(tmp_path, ['1', '12'], files_of('1') + files_of('12'))
    assert [s.report for s in load_studies(good, check=False, split=1)] == ['Clear 1.', 'Clear 12.']
    for uids, files in (
        (['1.0', '12.0'], files_of('1') + files_of('12')),
        (['1', '12'], files_of('1') + files_of('12.0', '12')),
        (['1', '012'], files_of('1') + files_of('12')),
        (['1', '²'], files_of('1')),
        (['1', '01'], files_of('1')),
    ):
        found = faults(kaggle(tmp_path, uids, files), check=False, split=1)
        assert all('as published' in f.remedy or 'fetch the table' in f.remedy for f in found)
        assert found[0].field.endswith(('uid', 'filename'))
    studies = load_studies(
        kaggle(tmp_path, ['1'], files_of('1') + files_of('7')), check=False, split=1
    )
    assert "2 images are of reports that the table lacks: '7'" in studies.facts.texts('images')


def test_mimics_tables(tmp_path):
    "A patient 10000001.0 is no number of MIMIC-CXR; images that the metadata lack are counted."
    home = save_studies(make_studies(3, seed=2), tmp_path / 'set', 'mimic')
    file = home / 'mimic-cxr-2.0.0-metadata.csv.gz'
    lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    file.write_bytes(gzip.compress('\n'.join([lines[0], *lines[3:]]).encode()))
    studies = load_studies(home)
    assert [reason for _, reason in studies.left_out] == ['no image is in the metadata']
    assert any('2 images are not in the metadata' in text for text in studies.facts.texts('images'))
    file.write_bytes(gzip.compress('\n'.join([*lines, lines[1]]).encode()))
    with pytest.raises(DataSetError, match='was used before'):
        load_studies(home)
    file.write_bytes(gzip.compress('\n'.join(lines).encode()))
    file = home / 'mimic-cxr-2.0.0-split.csv.gz'
    text = gzip.decompress(file.read_bytes()).decode().replace(',10000001,', ',10000001.0,')
    file.write_bytes(gzip.compress(text.encode()))
    with pytest.raises(DataSetError, match=r"'10000001\.0'.*none of MIMIC-CXR"):
        load_studies(home)
