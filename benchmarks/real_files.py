"""Every real file that is at hand goes through the commands: `uar audit`, `uar tokenize` and
`uar generate`. None may crash, warn or be passed over without a word.

    python benchmarks/real_files.py [--out data/results/real_files.json] [--limit 12]

Two collections: the 360 frontal X-rays below UAR_DATA (left out where that is not set), whose
manifest says which view each one shows, and all files of pydicom's that come with the package:
DICOM of every kind, broken ones, reports, directories. Two minutes of processor time.
"""

import argparse
import contextlib
import csv
import io
import json
import os
import shutil
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from uar_nb.apps.cli import main as uar
from uar_nb.core import atomic_write, find_model

MODEL = 'phantom-small'


# ---- commands


@dataclass
class Done:
    "How a command ended."

    status: int
    out: str
    err: str
    seconds: float  # of processor time

    @property
    def crashed(self):
        "Whether it ended as no command should."
        slip = 'Traceback' in self.err or 'a fault of uar_nb' in self.err
        return slip or self.status not in (0, 2)

    @property
    def why(self):
        "Why it refused a file, without the file's name."
        return self.err.removeprefix('error: ').partition(': ')[2].strip()


def command(*argv):
    "Run a command of `uar` in this process."
    out, err = io.StringIO(), io.StringIO()
    begin = time.process_time()
    status = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            uar([str(part) for part in argv])
        except SystemExit as end:
            status = end.code or 0
    return Done(status, out.getvalue(), err.getvalue(), time.process_time() - begin)


def generate(files, progress=False):
    "({file: report as JSON, or `Done` where it was refused}, seconds) of one image each."
    reports, seconds = {}, 0.0
    for number, file in enumerate(files):
        done = command('generate', file, '--checkpoint', MODEL, '--json')
        assert not done.crashed, f'{file}: {done.err}'
        reports[file] = done if done.status else json.loads(done.out)
        seconds += done.seconds
        if progress and number % 50 == 49:
            print(f'{number + 1} reports', flush=True)
    return reports, seconds


def tokenize(data, folder):
    "(images, seconds) of `uar tokenize` with the dVAE that ships with the package."
    dvae = find_model(MODEL) / 'tokenizer'
    done = command('tokenize', data, '--dvae', dvae, '--out', folder, '--crops', 0, '-q')
    assert done.status == 0, done.err
    return int(done.out.split('\n')[-2].split()[0]), done.seconds


def audit(data, folder):
    "(what `uar audit` found as JSON, seconds)"
    done = command('audit', data, '--out', folder, '--json', '-q', '--no-baselines')
    assert done.status == 0 and not done.err, done.err
    return json.loads(done.out), done.seconds


def told(notes):
    "Notes without the names of files."
    return [note.partition(': ')[0] for note in notes]


def judged(reports):
    "What `uar generate` said of the images of reports."
    written = [report for report in reports.values() if isinstance(report, dict)]
    views = Counter(report['views'][0] for report in written)
    sources = Counter(report['images'][0]['source'] for report in written)
    unlike = sum(report['unlike'] is True for report in written)
    return dict(reports=len(written), views=dict(views), view_told_by=dict(sources), unlike=unlike)


# ---- the frontals


def frontal_rows(root, limit=None):
    "Rows of the manifest, evenly chosen where there is a limit."
    with open(root / 'manifest.csv', newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    return rows if limit is None else rows[:: max(1, len(rows) // limit)][:limit]


def as_table(rows, root, folder):
    "The rows as a data set of the user's own: reports.csv and images/."
    (folder / 'images').mkdir(parents=True)
    with open(folder / 'reports.csv', 'w', newline='', encoding='utf-8') as file:
        table = csv.writer(file)
        table.writerow(['id', 'image', 'view', 'patient', 'split'])
        for row in rows:
            name = Path(row['image']).name
            shutil.copy(root / row['image'], folder / 'images' / name)
            patient = f'{row["source"]} {row["patient"]}'
            table.writerow([name, f'images/{name}', row['view'], patient, 'train'])
    return folder


def try_frontals(root, home, limit=None, progress=False):
    "What becomes of the frontals: as a table, as a folder of images, one by one."
    rows = frontal_rows(root, limit)
    table = as_table(rows, root, home / 'table')
    found, seconds = audit(table, home / 'audit')
    alone, _ = audit(table / 'images', home / 'audit alone')
    images, token_seconds = tokenize(table, home / 'tokens')
    files = [table / 'images' / Path(row['image']).name for row in rows]
    reports, report_seconds = generate(files, progress)
    refused = {file.name: done.why for file, done in reports.items() if isinstance(done, Done)}
    return dict(
        files=len(rows),
        sources=dict(Counter(row['source'] for row in rows)),
        manifest_views=dict(Counter(row['view'] for row in rows)),
        audit=dict(
            seconds=round(seconds, 1),
            studies=found['splits']['all']['studies'],
            views={
                view: found['splits']['all'][view] for view in ('frontal', 'lateral', 'unknown')
            },
            states=found['pictures']['states'],
            faults=found['faults']['count'],
            notes=told(found['notes']),
        ),
        audit_without_table=dict(
            studies=alone['splits']['all']['studies'],
            views={
                view: alone['splits']['all'][view] for view in ('frontal', 'lateral', 'unknown')
            },
            faults=alone['faults']['count'],
            notes=told(alone['notes']),
        ),
        tokens=dict(images=images, seconds=round(token_seconds, 1)),
        generate=dict(judged(reports), refused=refused, seconds=round(report_seconds, 1)),
    )


# ---- pydicom's files


def pydicom_files(limit=None):
    "(folder, all files of it) of the data that pydicom comes with."
    import pydicom

    root = Path(pydicom.__file__).parent / 'data'
    files = sorted(
        path for path in root.rglob('*') if path.is_file() and path.suffix not in ('.py', '.pyc')
    )
    return root, files if limit is None else files[:: max(1, len(files) // limit)][:limit]


def try_pydicom(home, limit=None, progress=False):
    "What becomes of pydicom's files: as a folder, those that can be read as tokens, one by one."
    root, files = pydicom_files(limit)
    names = {file: file.relative_to(root).as_posix() for file in files}
    for file, name in names.items():
        target = home / 'all' / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    reports, report_seconds = generate([home / 'all' / name for name in names.values()], progress)
    refused = {file: done for file, done in reports.items() if isinstance(done, Done)}
    found, seconds = audit(home / 'all', home / 'audit')
    rows = found["faults"]["rows"]
    faults = {home / "all" / row["file"] for row in rows}
    for file in reports.keys() - refused.keys():
        target = home / 'good' / file.relative_to(home / 'all')
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    images, token_seconds = tokenize(home / 'good', home / 'tokens')
    not_meant = [done.why for file, done in refused.items() if file not in faults]
    return dict(
        files=len(files),
        generate=dict(
            judged(reports),
            refused=dict(Counter(done.why for done in refused.values()).most_common()),
            seconds=round(report_seconds, 1),
        ),
        audit=dict(
            seconds=round(seconds, 1),
            faults=len(faults),
            faults_of_what_generate_reads=dict(
                Counter(row["what"] for row in rows if home / "all" / row["file"] not in refused)
            ),
            passed_over=len(not_meant),
            passed_over_as=dict(Counter(not_meant)),
            notes=told(found['notes']),
        ),
        tokens=dict(images=images, seconds=round(token_seconds, 1)),
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', default='data/results/real_files.json')
    parser.add_argument('--limit', type=int, help='so many files of each collection')
    a = parser.parse_args()
    warnings.simplefilter('error')  # a warning would be one that a user sees
    result = {}
    with tempfile.TemporaryDirectory() as home:
        result['pydicom'] = try_pydicom(Path(home) / 'pydicom', a.limit, progress=True)
        if 'UAR_DATA' in os.environ:
            root = Path(os.environ['UAR_DATA']) / 'frontal'
            result['frontals'] = try_frontals(root, Path(home) / 'frontal', a.limit, progress=True)
    atomic_write(Path(a.out), result)


if __name__ == '__main__':
    main()
