"""How long it takes, and how much memory, to index a copy of MIMIC-CXR-JPG: tables and reports
of invented studies in PhysioNet's layout, without images.

    python benchmarks/index_mimic.py [--studies 300000] [--loose] [--out
    data/results/index_mimic.json]

Two thirds of the studies have two images or three; a tenth has no FINDINGS. Reports lie in one
archive, or with --loose in a file each. The reading runs in a process of its own, whose
peak memory is that of the whole process (with `uar_nb` and what it imports loaded: that share is
given too).
"""

import argparse
import gzip
import json
import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

READ = '''
import json, resource, sys, time
from uar_nb.data.mimic import load_mimic
from uar_nb.data.study import describe_studies
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024) / 1e6
before, wall, cpu = peak(), time.perf_counter(), time.process_time()
studies = load_mimic(sys.argv[1], views='both')
print(json.dumps(dict(studies=len(studies), left_out=len(studies.left_out), pictures=sum(len(s.views) for s in studies), wall_s=round(time.perf_counter() - wall, 1),
                      processor_s=round(time.process_time() - cpu, 1), peak_mb=round(peak()), peak_before_mb=round(before))))
'''  # noqa: E501
REPORT = '''                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  Invented, number {i}.

 COMPARISON:  None.

 {header}:

 Heart size is normal, number {i}.  The mediastinum is of usual width.  A mild
 opacity lies in the left upper zone.  There is no effusion and no pneumothorax.
 Degenerative changes of the spine are mild.  No support device is seen.

 IMPRESSION:

 Mild opacity on the left, number {i}.
'''


def generate(root, n, loose):
    "Tables and reports of n studies."
    with (
        gzip.open(root / 'mimic-cxr-2.0.0-split.csv.gz', 'wt', compresslevel=1) as split,
        gzip.open(root / 'mimic-cxr-2.0.0-metadata.csv.gz', 'wt', compresslevel=1) as meta,
        zipfile.ZipFile(
            root / 'mimic-cxr-reports.zip', 'w', zipfile.ZIP_DEFLATED, compresslevel=1
        ) as archive,
    ):
        split.write('dicom_id,study_id,subject_id,split\n')
        meta.write(
            'dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime,ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning\n'
        )
        for i in range(n):
            subject, study = str(10_000_000 + i // 3), str(50_000_000 + i)
            home = 'validate' if i // 3 % 97 == 0 else 'test' if i // 3 % 53 == 0 else 'train'
            for k in range(1 + i % 3):
                dicom, position = (
                    f'{i:08x}-{k:08x}-00000000-11111111-22222222',
                    ('PA', 'LATERAL', 'AP')[k],
                )
                split.write(f'{dicom},{study},{subject},{home}\n')
                meta.write(
                    f'{dicom},{subject},{study},CHEST (PA AND LAT),{position},3056,2544,21800506,213014.531,CHEST (PA AND LAT),\n'  # noqa: E501
                )
            name, text = (
                f'files/p{subject[:2]}/p{subject}/s{study}.txt',
                REPORT.format(i=i, header='FINDINGS' if i % 10 else 'OTHER'),
            )
            if loose:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            else:
                archive.writestr(name, text)
    if loose:
        (root / 'mimic-cxr-reports.zip').unlink()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--studies', type=int, default=300_000)
    parser.add_argument('--loose', action='store_true')
    parser.add_argument('--out', type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        generate(Path(root), options.studies, options.loose)
        done = subprocess.run(
            [sys.executable, '-c', READ, root],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, 'OMP_NUM_THREADS': '1'},
        )
    result = dict(
        machine=f'{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}',
        reports='a file each' if options.loose else 'one archive',
        threads=1,
        **json.loads(done.stdout),
    )
    print(json.dumps(result, indent=1))
    if options.out:
        from uar_nb.core import atomic_write

        atomic_write(options.out, result)


if __name__ == '__main__':
    main()
