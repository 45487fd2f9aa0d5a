"""What machines read of a set of phantoms: by the rules of the Croissant 1.0 specification, by
mlcroissant where it is installed, and by our own reader, to which it is no data."""

import hashlib
import json
import re

import pytest

from uar_nb.data.load import LAYOUTS, load_studies
from uar_nb.phantom.generator import make_studies, write_studies

SET = make_studies(3, seed=5) + make_studies(2, seed=5, split='test')
# https://docs.mlcommons.org/croissant/docs/croissant-spec.html: what must be there
REQUIRED = {
    'sc:Dataset': '@context conformsTo description license name url creator datePublished',
    'cr:FileObject': '@id name contentUrl encodingFormat sha256',
    'cr:FileSet': '@id name encodingFormat includes',
    'cr:RecordSet': '@id name field',
    'cr:Field': '@id name dataType source',
}


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    "Layout → folder of the same five studies."
    home = tmp_path_factory.mktemp('sets')
    return {layout: write_studies(SET, home / layout, layout) for layout in LAYOUTS}


def described(folder):
    return json.loads((folder / 'croissant.json').read_text(encoding='utf-8'))


def typed(value):
    "All objects with a type in a JSON value."
    if isinstance(value, list):
        for inner in value:
            yield from typed(inner)
    elif isinstance(value, dict):
        if '@type' in value and str(value['@type']) in REQUIRED:
            yield value
        for inner in value.values():
            yield from typed(inner)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_what_the_specification_requires(layout, written):
    about = described(written[layout])
    for one in typed(about):
        missing = set(REQUIRED[one['@type']].split()) - set(one)
        assert not missing, f'{one.get("@id")}: {missing}'
    assert about['conformsTo'] == 'http://mlcommons.org/croissant/1.0'
    assert re.fullmatch(r'\d{4}-\d\d-\d\d', about['datePublished'])
    assert about['description'].endswith('never for diagnosis.') and 'train 3, test 2' in str(about)
    ids = [one['@id'] for one in typed(about) if '@id' in one]
    assert len(ids) == len(set(ids))
    named = {'@language', '@vocab', 'cr', 'sc', 'dct', *about['@context']}
    used = {key for one in typed(about) for key in one if not key.startswith('@')}
    schema_org = {*'name description license url creator datePublished version keywords'.split()}
    schema_org |= {*'distribution contentUrl contentSize encodingFormat sha256'.split()}
    assert used - schema_org <= named


@pytest.mark.parametrize('layout', LAYOUTS)
def test_every_file_of_the_set_is_in_it_once(layout, written):
    folder, found = written[layout], []
    for one in described(folder)['distribution']:
        if one['@type'] == 'cr:FileSet':
            found += list(folder.glob(one['includes']))
            continue
        file = folder / one['contentUrl']
        found.append(file)
        content = file.read_bytes()
        assert one['sha256'] == hashlib.sha256(content).hexdigest()
        assert one['contentSize'] == f'{len(content)} B'
    there = [path for path in folder.rglob('*') if path.is_file()]
    assert sorted([*found, folder / 'croissant.json']) == sorted(there)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_it_is_no_data_to_our_readers(layout, written, tmp_path):
    folder = written[layout]
    with_it = load_studies(folder)
    kept = (folder / 'croissant.json').read_text(encoding='utf-8')
    (folder / 'croissant.json').unlink()
    without = load_studies(folder)
    (folder / 'croissant.json').write_text(kept, encoding='utf-8')
    assert [s.id for s in with_it] == [s.id for s in without]
    assert [note.text for note in with_it.facts.notes] == [n.text for n in without.facts.notes]


def test_images_alone_with_it_are_images_alone(written, tmp_path):
    (written['r2gen'] / 'images').rename(tmp_path / 'images')
    (tmp_path / 'croissant.json').write_text('{}')
    try:
        notes = [note.text for note in load_studies(tmp_path).facts.notes]
    finally:
        (tmp_path / 'images').rename(written['r2gen'] / 'images')
    assert not any('croissant' in text for text in notes)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_mlcroissant_reads_it(layout, written):
    "The reference implementation finds no fault, and reads reports that are those of the studies."
    mlcroissant = pytest.importorskip('mlcroissant')
    dataset = mlcroissant.Dataset(jsonld=str(written[layout] / 'croissant.json'))
    assert not dataset.metadata.ctx.issues.errors and not dataset.metadata.ctx.issues.warnings
    if layout in ('openi', 'kaggle', 'mimic'):
        assert not dataset.metadata.record_sets
        return
    records = list(dataset.records('studies'))
    read = {one['studies/id'].decode(): one['studies/report'].decode() for one in records}
    assert read == {study.id: study.report for study in SET}
    splits = {one['studies/id'].decode(): one['studies/split'].decode() for one in records}
    assert splits == {study.id: study.split for study in SET}
