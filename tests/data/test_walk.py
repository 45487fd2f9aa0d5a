"""Walking a folder: every real file is found, once, and what is passed over is said."""

import os
import shutil
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uar_nb.core import UARError
from uar_nb.data.load import load_studies
from uar_nb.data.study import FaultLog, walk, walk_files

needs_links = pytest.mark.skipif(os.name == 'nt', reason='links need a right on Windows')


def draw(path, seed=0):
    "A small image file."
    grey = np.random.default_rng(seed).integers(0, 255, (40, 40), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey).save(path)
    return path


def brute_force(folder):
    "Every real file below a folder, by its true place, with Python's own walk."
    found = set()
    for place, _, names in os.walk(folder):
        found |= {os.path.realpath(os.path.join(place, name)) for name in names}
    return found


@needs_links
def test_linked_folders_are_read_and_loops_end(tmp_path):
    draw(tmp_path / 'set/a.png')
    draw(tmp_path / 'elsewhere/b.png')
    draw(tmp_path / 'elsewhere/deep/c.png')
    (tmp_path / 'set/batch2').symlink_to('../elsewhere')  # relative, as archives have it
    (tmp_path / 'elsewhere/up').symlink_to(tmp_path / 'set')
    (tmp_path / 'elsewhere/self').symlink_to(tmp_path / 'elsewhere')
    found = walk(tmp_path / 'set')
    true = {os.path.realpath(path) for path in found.files}
    assert true == brute_force(tmp_path)
    assert len(true) == len(found.files)
    assert found.passed['links to a folder that was read already'] == 2
    studies = load_studies(tmp_path / 'set')
    assert [study.id for study in studies] == ['a', 'batch2/b', 'batch2/deep/c']


@needs_links
def test_a_folder_with_two_ways_comes_by_its_real_one(tmp_path):
    draw(tmp_path / 'z/a.png')
    (tmp_path / 'a_link').symlink_to(tmp_path / 'z')
    assert walk_files(tmp_path) == [tmp_path / 'z/a.png']


@needs_links
def test_broken_links_and_pipes_are_counted_and_never_opened(tmp_path):
    draw(tmp_path / 'a.png')
    (tmp_path / 'gone.png').symlink_to(tmp_path / 'nowhere.png')
    os.mkfifo(tmp_path / 'pipe.png')
    found = walk(tmp_path)
    assert found.files == [tmp_path / 'a.png']
    assert found.passed == {'broken links': 1, 'pipes, sockets or devices': 1}
    studies = load_studies(tmp_path)  # would wait for ever if it opened the pipe
    assert 'broken links' in ' '.join(studies.facts.texts('images'))


@pytest.mark.skipif(os.name == 'nt' or os.geteuid() == 0, reason='root reads everything')
def test_a_folder_without_permission_is_said(tmp_path):
    draw(tmp_path / 'a.png')
    draw(tmp_path / 'closed/b.png')
    (tmp_path / 'closed').chmod(0)
    try:
        assert walk(tmp_path).passed == {'folders that cannot be read': 1}
    finally:
        (tmp_path / 'closed').chmod(0o700)


@pytest.mark.parametrize('name', ['.thumbnails', '__MACOSX', '@eaDir', 'Thumbnails', '.git'])
def test_copies_of_programs_are_no_studies(tmp_path, name):
    draw(tmp_path / 'a.png')
    draw(tmp_path / name / 'a.png')
    draw(tmp_path / 'sub' / name / 'deep/a.png')
    studies = load_studies(tmp_path)
    assert [study.id for study in studies] == ['a']
    assert 'passed over: 2 ' in ' '.join(studies.facts.texts('images'))


def test_depth_counts_from_the_folder(tmp_path):
    for depth in range(4):
        draw(tmp_path / '/'.join('d' * depth) / f'{depth}.png')
    for depth in (1, 2, 3):
        assert len(walk_files(tmp_path, depth)) == depth
    assert len(walk_files(tmp_path)) == 4


def test_a_hundred_thousand_files_take_seconds(tmp_path):
    for i in range(100):
        folder = tmp_path / f'{i:03}'
        folder.mkdir()
        for j in range(200):
            (folder / f'{j}.png').touch()
    start = time.process_time()
    assert len(walk_files(tmp_path)) == 20_000
    assert time.process_time() - start < 3  # a fifth of 100,000


def test_images_of_one_stem_keep_their_suffix(tmp_path):
    for name in ('a.png', 'a.jpg', 'b.png', 'sub/a.png'):
        draw(tmp_path / name)
    studies = load_studies(tmp_path)
    assert [study.id for study in studies] == ['a.jpg', 'a.png', 'b', 'sub/a']
    assert '2 images share their name' in ' '.join(studies.facts.texts('images'))


def test_names_that_are_numbers_with_points_stay_whole(tmp_path):
    pydicom = pytest.importorskip('pydicom')
    source = pydicom.data.get_testdata_file('CT_small.dcm')
    for i in range(3):
        shutil.copyfile(source, tmp_path / f'1.2.840.113619.2.55.3.{i}')
    draw(tmp_path / 'v1.0.png')
    ids = [study.id for study in load_studies(tmp_path)]
    assert ids == [*(f'1.2.840.113619.2.55.3.{i}' for i in range(3)), 'v1.0']


def test_a_damaged_dicom_named_by_its_number_is_a_fault(tmp_path):
    draw(tmp_path / 'a.png')
    (tmp_path / '1.2.840.5').write_bytes(b'\0' * 128 + b'DICM' + b'\xff' * 9)
    with pytest.raises(UARError, match=r'1\.2\.840\.5'):
        load_studies(tmp_path)


def test_other_kinds_of_images_are_named(tmp_path):
    draw(tmp_path / 'a.png')
    for name in ('b.tif', 'c.tiff', 'd.TIF', 'e.nii.gz', 'f.dcm.gz', 'README', 'notes.txt'):
        (tmp_path / name).write_bytes(b'II*\0')
    texts = ' '.join(load_studies(tmp_path).facts.texts('images'))
    assert '2 .tif' in texts
    assert '1 .tiff' in texts
    assert '1 .nii.gz' in texts
    assert '1 .dcm.gz' in texts
    assert '2 other files' in texts


ACCENTS = ('Tórax', 'Größe', 'Åse', '胸部', 'Ñandú')


@pytest.mark.parametrize('name', ACCENTS)
@pytest.mark.parametrize('there', ['NFC', 'NFD'])
@pytest.mark.parametrize('written', ['NFC', 'NFD'])
def test_both_spellings_of_an_accent_meet(tmp_path, name, there, written):
    folder = unicodedata.normalize(there, name)
    draw(tmp_path / folder / f'{folder} 0.png')
    said = unicodedata.normalize(written, f'{name}/{name} 0.png')
    (tmp_path / 'reports.csv').write_text(f'id,image,report\n1,{said},Clear.\n', 'utf-8')
    (study,) = load_studies(tmp_path)
    assert study.views[0].path.is_file()
    assert study.views[0].image().shape == (128, 128)


def test_two_spellings_beside_each_other_are_two_files(tmp_path):
    names = [unicodedata.normalize(form, 'Tórax.png') for form in ('NFC', 'NFD')]
    for seed, name in enumerate(names):
        draw(tmp_path / name, seed)
    if len(walk_files(tmp_path)) < 2:
        pytest.skip('this file system knows one spelling')
    log = FaultLog('reports.csv')
    for name in names:
        assert log.image(tmp_path, name, 'image').name == name


def test_nearly_right_names_are_told(tmp_path):
    draw(tmp_path / 'p0.png')
    (tmp_path / '1.2.3.dcm').touch()
    for said, there in (('p0', 'p0.png'), ('p0.jpg', 'p0.png'), ('P0.PNG', 'p0.png')):
        if (tmp_path / said).exists():
            continue  # upper and lower case are one here
        log = FaultLog('reports.csv', 'exists')
        assert log.image(tmp_path, said, 'image') is None
        assert log.faults[0].remedy.startswith(f'there is {there!r}')
    log = FaultLog('reports.csv', 'exists')
    log.image(tmp_path, '1.2.3', 'image')
    assert "'1.2.3.dcm'" in log.faults[0].remedy
    log.image(tmp_path, 'quite-else.png', 'image')
    assert log.faults[1].remedy == 'check the path'


@needs_links
def test_absolute_paths_inside_are_inside(tmp_path):
    file = draw(tmp_path / 'real/a.png')
    (tmp_path / 'link').symlink_to(tmp_path / 'real')
    for folder in (tmp_path / 'real', tmp_path / 'link'):
        for said in (file, tmp_path / 'link/a.png', tmp_path / 'real/../real/a.png'):
            log = FaultLog('reports.csv')
            found = log.image(folder, str(said), 'image')
            assert found is not None, log.faults
            assert os.path.samefile(found, file)
    (tmp_path / 'real/reports.csv').write_text(f'id,image,report\n1,{file},Clear.\n')
    assert load_studies(tmp_path / 'real')[0].views[0].path == file


@pytest.mark.parametrize(
    'said',
    ['/etc/hostname', '../b.png', 'x/../../b.png', r'..\b.png', 'C:\\b.png', 'c:b.png', 'a\0.png'],
)
def test_paths_outside_are_faults(tmp_path, said):
    draw(tmp_path / 'set/a.png')
    draw(tmp_path / 'b.png')
    for check in (True, 'exists', False):
        log = FaultLog('reports.csv', check)
        assert log.image(tmp_path / 'set', said, 'image') is None
        assert 'leaves the folder' in log.faults[0].what


@pytest.mark.parametrize(
    'name',
    ['a b.png', '100%.png', 'x' * 200 + '.png', "it's.png", 'a,b.png', '10h30.png', '#1.png'],
)
def test_odd_names_are_read(tmp_path, name):
    draw(tmp_path / name)
    assert load_studies(tmp_path)[0].views[0].image().shape == (128, 128)
    quoted = name.replace('"', '""')
    (tmp_path / 'reports.csv').write_text(f'id,image,report\n1,"{quoted}",Clear.\n', 'utf-8')
    assert load_studies(tmp_path)[0].views[0].path == tmp_path / name


@pytest.mark.parametrize('check', [True, 'exists'])
def test_a_name_that_no_file_can_have_is_a_fault(tmp_path, check):
    draw(tmp_path / 'a.png')
    (tmp_path / 'reports.csv').write_text(f'id,image,report\n1,{"x" * 5000},Clear.\n')
    with pytest.raises(UARError, match='not found'):
        load_studies(tmp_path, check=check)


def test_an_empty_folder_says_so(tmp_path):
    with pytest.raises(UARError, match='there is no study'):
        load_studies(tmp_path)


def test_order_and_ids_of_an_ordinary_folder(tmp_path):
    for name in ('b.png', 'a/2.png', 'a/1.png', 'a.png'):
        draw(tmp_path / name)
    assert [study.id for study in load_studies(tmp_path)] == ['a/1', 'a/2', 'a', 'b']
    assert walk_files(tmp_path) == sorted(Path(tmp_path).rglob('*.png'))
