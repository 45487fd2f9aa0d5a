"""The last one wins, nowhere: what is there twice, and what would go lost without a word, is a
fault, or a note with ids and number that every command shows."""

import json
from dataclasses import replace

import pytest

from careless import KAGGLE, faults, images, write_table
from forge import TINY
from uar_nb.apps.audit import audit
from uar_nb.apps.cli import read_loading, read_settings
from uar_nb.apps.pipeline import TokenSource, check_training, configure, train_model
from uar_nb.config import run_preset
from uar_nb.core import UARError, parse_json, read_json
from uar_nb.data.batch import note_unused_images
from uar_nb.data.load import load_studies, save_studies
from uar_nb.experiment.prepare import prepare
from uar_nb.phantom.generator import make_studies
from uar_nb.tokenizer.choose import load_tokenizer

NAMES = ['a.png', 'b.png', 'c.png', 'd.png']


def lines(folder, *entries):
    "JSON lines beside four images."
    images(folder, NAMES)
    file = folder / 'reports.jsonl'
    file.write_text('\n'.join(e if isinstance(e, str) else json.dumps(e) for e in entries))
    return file


def table(folder, header, *rows):
    images(folder, NAMES)
    return write_table(folder, header.split(','), [row.split(',') for row in rows])


# ---- columns and keys


@pytest.mark.parametrize(
    'header, field',
    [
        ('id,image,Report,report', 'column report'),
        ('id,image,report,patient,subject_id', 'column patient'),
        ('id,image,report,view,views', 'column view'),
        ('id,image,report,split,Split', 'column split'),
        ('id,ID,image,report', 'column id'),
        ('id,image,report,image', 'column image'),
        ('id,image,images,report', 'header'),
        ('id,image,image_path,report', 'header'),
    ],
)
def test_a_column_named_twice(header, field, tmp_path):
    "Case 13: also where both columns say the same."
    row = ','.join('a.png' if 'image' in name else 'train' for name in header.split(','))
    assert field in [fault.field for fault in faults(table(tmp_path, header, row))]


def test_a_column_nobody_reads_may_be_there_twice(tmp_path):
    studies = load_studies(table(tmp_path, 'id,image,report,ward,ward,', 'A,a.png,x,1,2,'))
    assert studies.facts.texts('fields') == ('not used: ward',)
    studies = load_studies(table(tmp_path, ',id,image,report', '0,A,a.png,x'))  # as pandas writes
    assert studies.facts.texts('fields') == ('not used: (no name)',)


def test_columns_of_published_tables(tmp_path):
    rows = [['1', '', '', '', '', '', 'Clear.', '', 'Other.']]
    write_table(tmp_path, [*KAGGLE, 'findings'], rows, 'indiana_reports.csv')
    view = ['1', '1_IM-0001-1001.dcm.png', 'Frontal', 'Lateral']
    header = ['uid', 'filename', 'projection', 'projection']
    write_table(tmp_path, header, [view], 'indiana_projections.csv')
    found = faults(tmp_path, check=False)
    assert [fault.field for fault in found] == ['column projection', 'column findings']
    write_table(tmp_path, KAGGLE, [rows[0][:8], rows[0][:7]], 'indiana_reports.csv')
    again = [view[:3], view[:2] + ['Lateral']]
    write_table(tmp_path, header[:3], again, 'indiana_projections.csv')
    told = [(fault.field, fault.what) for fault in faults(tmp_path, check=False)]
    assert told == [
        ('line 3, projection', "'1_IM-0001-1001.dcm.png' has another view than before"),
        ('line 3', 'has 7 cells, the header has 8'),
    ]


def test_a_key_twice_in_json(tmp_path):
    "In every JSON that is read: a set, its lines, settings, values of the command line."
    twice = '{"id": "A", "image": "a.png", "report": "x", "split": "train", "report": "y"}'
    (fault,) = faults(lines(tmp_path, twice))
    assert (
        fault.field == 'line 1' and "key 'report' twice" in fault.what and "'id: A'" in fault.what
    )
    file = tmp_path / 'annotation.json'
    for text, key in (
        (f'{{"train": [{twice}]}}', 'report'),
        ('{"train": [], "train": []}', 'train'),
    ):
        file.write_text(text)
        assert faults(file)[0].what.startswith(f'has the key {key!r} twice')
        with pytest.raises(UARError, match=f'annotation.json, {key}: has the key'):
            read_json(file)
    file.write_text('{"model": {"d": 256, "d": 128}}')
    with pytest.raises(UARError, match='twice'):
        configure(files=[file])
    file.write_text('{"model": {"d": 256}, "model.d": 128}')
    with pytest.raises(UARError, match='model.d: is set twice, nested and dotted'):
        configure(files=[file])
    with pytest.raises(UARError, match='twice'):
        configure(changes={'train.stages': '[{"name": "a", "steps": 1, "steps": 2}]'})
    assert parse_json('[{"a": 1}, {"a": 2}]') == [{'a': 1}, {'a': 2}]


def test_of_a_setting_on_the_command_line_the_last_counts_as_its_help_says():
    from typer.main import get_command

    from uar_nb.apps.cli import app

    assert read_settings(['model.d=1', 'model.d=2']) == {'model.d': '2'}
    assert read_loading(['text=both', 'text=findings']) == {'text': 'findings'}
    options = {option.name: option.help for option in get_command(app).commands['train'].params}
    assert 'the last counts' in options['settings'] and 'the last counts' in options['load']


def test_one_thing_under_two_names(tmp_path):
    entry = dict(id='A', image='a.png', report='x', split='train', view='frontal')
    for more, field in (
        (dict(views=['lateral']), 'line 1.view'),
        (dict(images=['b.png']), 'line 1.image'),
        (dict(image_path=['a.png', 'b.png'], views=['frontal', 'lateral']), 'line 1.image'),
        (dict(patient='p', subject_id='q'), 'line 1.subject_id'),
    ):
        found = faults(lines(tmp_path, {**entry, **more}))
        assert field in [fault.field for fault in found], more
        assert any('which means the same' in fault.what for fault in found)
    same = dict(entry, views=['frontal'], images=['a.png'], patient=7, subject_id='7')
    (study,) = load_studies(lines(tmp_path, same))
    assert (study.patient, [view.name for view in study.views]) == ('7', ['frontal'])


# ---- rows


def test_short_rows_are_named_and_long_ones_faults(tmp_path):
    header = 'id,image,report,split,patient'
    rows = ['A,a.png,Clear.,train,p', 'B,b.png,Effusion.', 'C,c.png,x,val', 'D,d.png,x,val,p,,']
    studies = load_studies(table(tmp_path, header, *rows))
    (note,) = studies.facts.texts('rows')
    assert note.startswith('2 rows have fewer cells than the header: lines 3, 4')
    assert "1 studies name no split and are in train: 'B'" in studies.facts.texts('split')
    (fault,) = faults(table(tmp_path, header, rows[0], 'B,b.png,Heart, lungs: clear.,train,p'))
    assert (fault.field, fault.what) == ('line 3', 'has 6 cells, the header has 5')


def test_rows_of_one_study_that_disagree(tmp_path):
    header = 'id,image,report,split,patient'
    for column, other in enumerate(['y', 'val', 'q'], 2):
        row = ['A', 'b.png', 'x', 'train', 'p']
        row[column] = other
        found = faults(table(tmp_path, header, 'A,a.png,x,train,p', ','.join(row)))
        name = header.split(',')[column]
        assert [fault.field for fault in found] == [f'line 2, {name}']


def test_a_study_in_two_splits(tmp_path):
    entry = dict(id='A', image_path=['a.png'], report='x')
    images(tmp_path / 'images', NAMES)
    file = tmp_path / 'annotation.json'
    file.write_text(json.dumps({'train': [entry], 'test': [entry]}))
    assert ['was used before' in fault.what for fault in faults(file)] == [True]
    visits = [dict(entry, id=id, study_id=5, image_path=[f'{id}.png']) for id in 'abc']
    file.write_text(json.dumps({'train': visits[:2], 'test': visits[2:]}))
    assert "1 values of study_id stand in more than one split: '5'" in load_studies(
        file
    ).facts.texts('split')


@pytest.mark.parametrize('kind', ['table', 'lines'])
def test_one_image_in_two_studies(kind, tmp_path):
    rows = [('A', 'a.png', 'train'), ('B', 'a.png', 'test'), ('C', 'c.png', 'val')]
    if kind == 'table':
        texts = [f'{id},{image},x,{split}' for id, image, split in rows]
        file = table(tmp_path, 'id,image,report,split', *texts)
    else:
        entries = [dict(id=i, image=image, report='x', split=split) for i, image, split in rows]
        file = lines(tmp_path, *entries)
    (note,) = load_studies(file).facts.texts('images')
    assert note == (
        '1 images belong to more than one study, 1 of them in more than one split, '
        "e.g. 'a.png' in 'A', 'B'"
    )


def test_a_blank_split_is_counted(tmp_path):
    rows = ['A,a.png,x,', 'B,b.png,x,val', 'C,c.png,x,']
    studies = load_studies(table(tmp_path, 'id,image,report,split', *rows), split='test')
    note = "2 studies name no split and are in test: 'A', 'C'"
    assert [s.split for s in studies] == ['test', 'val', 'test']
    assert (
        note in studies.facts.texts('split')
        and note
        in audit(tmp_path / 'reports.csv', with_images=False, baselines=False, split='test').notes
    )


def test_a_drawn_split_says_what_is_empty_and_who_is_too_many(tmp_path):
    header = 'id,image,report,patient'
    rows = [f's{i},{NAMES[i % 4]},x{i},{"ANON" if i < 7 else i}' for i in range(10)]
    texts = load_studies(table(tmp_path, header, *rows), split=1).facts.texts('split')
    assert any("7 of 10 studies are of the patient 'ANON'" in text for text in texts)
    assert any('is empty' in text for text in texts)


def test_two_tables_in_one_folder(tmp_path):
    table(tmp_path, 'id,image,report', 'A,a.png,x')
    (tmp_path / 'reports.tsv').write_text('id\timage\treport\nB\tb.png\ty\n')
    studies = load_studies(tmp_path)
    assert [s.id for s in studies] == ['A']
    assert studies.facts.texts('other layout') == (
        'also here: reports.tsv; name its file to read it',
    )
    home = save_studies(make_studies(3, seed=2), tmp_path / 'mimic', 'mimic')
    file = home / 'mimic-cxr-2.0.0-split.csv.gz'
    (home / 'mimic-cxr-2.1.0-split.csv.gz').write_bytes(file.read_bytes())
    (text,) = load_studies(home).facts.texts('not read')
    assert 'mimic-cxr-2.1.0-split.csv.gz' in text


# ---- images that no model reads


@pytest.fixture(scope='module')
def three_images():
    "Eight studies with a third image, in two splits."
    studies = make_studies(6, seed=4) + make_studies(2, seed=4, split='val')
    return [replace(s, views=(*s.views, s.views[0])) for s in studies]


def test_the_third_image_is_told_by_every_command(three_images, tmp_path, capsys):
    "Case 14: the audit, the check before a training, the training, its folder, its results."
    home = save_studies(three_images, tmp_path / 'set', 'phantom')
    config = run_preset('phantom').override({'train.device': 'cpu'})
    note = '8 studies have more images than the 2 that the model reads (data.views)'
    assert not any(note in text for text in load_studies(home).facts.texts())
    found = audit(home, with_images=False, baselines=False)
    (told,) = [text for text in found.notes if note in text]
    assert '8 images are not used, of ' in told and three_images[0].id in told
    assert f'note: {told}' in str(found).splitlines()
    checked = check_training(home, config, tmp_path / 'run', progress=True)
    assert told in checked.studies.facts.texts('images') and told in capsys.readouterr().out
    assert note_unused_images(three_images, 3) is three_images


def test_the_notes_stay_with_the_run(three_images, tmp_path, capsys):
    "In data.json, with the results, and without a say on whether the run goes on."
    home = save_studies(three_images, tmp_path / 'set', 'phantom')
    changes = dict(setting.split('=') for setting in TINY) | {'train.device': 'cpu'}
    config = run_preset('phantom').override(changes)
    source = TokenSource(steps=2, codebook=16)
    train_model(home, config, tmp_path / 'run', source, progress=True)
    kept = read_json(tmp_path / 'run' / 'data.json')['notes']
    assert any('8 images are not used' in note for note in kept)
    assert '8 images are not used' in capsys.readouterr().out
    card = read_json(tmp_path / 'run' / 'data.json')
    (tmp_path / 'run' / 'data.json').write_text(json.dumps(dict(card, notes=['other'])))
    train_model(home, config, tmp_path / 'run', source, progress=False)
    prepared = prepare(config, three_images, load_tokenizer(tmp_path / 'run' / 'dvae'))
    assert any('8 images are not used' in note for note in prepared.data['train'].notes)


def test_mimic_is_audited_for_a_model_of_one_view(tmp_path):
    assert run_preset('mimic_cxr').data.views == 1 and run_preset('iu_xray').data.views == 2
    studies = [replace(s, views=(s.views[0],) * 2) for s in make_studies(3, seed=2)]
    home = save_studies(studies, tmp_path / 'set', 'mimic')
    found = audit(home, with_images=False, baselines=False)
    assert any('3 studies have more images than the 1 that the model' in t for t in found.notes)


def test_iu_xray_names_the_studies_whose_images_are_cut(three_images, tmp_path):
    home = save_studies(three_images, tmp_path / 'set', 'kaggle')
    studies = load_studies(home, split=1)
    (note,) = [text for text in studies.facts.texts('images') if 'are kept' in text]
    assert note.startswith('8 studies have more than 2 images, of which 2 are kept: ')
    assert studies[0].id in note
