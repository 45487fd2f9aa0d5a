"""Runs notebooks from nothing; saves their outputs, or only measures them.

    python tools/lessons.py nbs/wings/show/01_plots.ipynb ...             run, save the outputs,
    note what it took
    python tools/lessons.py --all                              the same for every page but the
    training runs, the index last
    python tools/lessons.py --measure nbs/wings/show/01_plots.ipynb ...   run and note what it
    took; the notebooks stay as they are
    python tools/lessons.py --measure                          the same for every page that has
    code and is no training run
    python tools/lessons.py --table                            the table of
    data/results/notebooks.json

Numbers of one notebook replace that notebook's alone; those of another machine stay, and say
which machine it was.
"""

import json
import os
import platform
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

import pages
from pages import ROOT

SKIP = ('nbdev_export()', '#| eval: false')
RESULTS = ROOT / 'data' / 'results' / 'notebooks.json'
# Pages that are new and wait for an idle machine: `--measure` them and take them out
NOT_MEASURED = ()
TOYS = 'not a result'  # an analysis without its runs says so
# Peak memory of the kernel and of the largest process that it started, in MB; the kernel's own
# high-water mark where Linux tells it
MEMORY = '''
import json as _json, sys as _sys
from pathlib import Path as _Path
def _peak():
    try: import resource
    except ImportError: return dict(memory_mb=None, children_mb=None)                      # Windows does not tell
    unit, status = (1024*1024 if _sys.platform == 'darwin' else 1024), _Path('/proc/self/status')
    own = int(next(l.split()[1] for l in status.read_text().splitlines() if l.startswith('VmHWM')))/1024 if status.exists() else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/unit
    return dict(memory_mb=round(own), children_mb=round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss/unit))
print(_json.dumps(_peak()))
'''  # noqa: E501


def join_streams(outputs):
    "Neighbouring outputs of one stream as one: a kernel may split a single print."
    joined = []
    for out in outputs:
        last = joined[-1] if joined else None
        if (
            out['output_type'] == 'stream'
            and last is not None
            and last['output_type'] == 'stream'
            and last['name'] == out['name']
        ):
            last['text'] += out['text']
        else:
            joined.append(out)
    return joined


def measured_pages(folder=ROOT / 'nbs'):
    "Notebooks that have code and are no run with kept outputs, in the order of their ids."
    return [
        p
        for p in pages.all_pages(folder)
        if any(c['cell_type'] == 'code' for c in pages.cells_of(p)) and not pages.is_kept(p)
    ]


def said(book):
    "All text that a notebook's cells have given."
    return ''.join(
        out.get('text', '')
        for cell in book.cells
        if cell.cell_type == 'code'
        for out in cell.outputs
        if out['output_type'] == 'stream'
    )


def run_notebook(path, save=True):
    """Execute one notebook in its own folder and save it, unless told otherwise; cells that a
    lesson does not run are left as they are. Returns what it took, None for a training run."""
    path = Path(path)
    book = nbformat.read(path, as_version=4)
    if pages.is_kept(path):
        print(f'{path.name}: a run with kept outputs, left as it is')
        return None
    run = nbformat.reads(nbformat.writes(book), as_version=4)
    for cell in run.cells:
        if cell.cell_type == 'code' and any(s in cell.source for s in SKIP):
            cell.source = 'pass'
    run.cells.append(nbformat.v4.new_code_cell(MEMORY))
    start = time.time()
    training = pages.kind_of(pages.page_id(path)) == 'training'
    where = {
        k: v for k, v in os.environ.items() if k != 'UAR_RUNS' or not training
    }  # a training page walks its toy; with UAR_RUNS it would train for hours
    NotebookClient(
        run, timeout=3600, kernel_name='python3', resources={'metadata': {'path': str(path.parent)}}
    ).execute(env=where)
    took = dict(
        seconds=round(time.time() - start, 1), **json.loads(run.cells.pop().outputs[0]['text'])
    )
    if save and TOYS in said(run) and TOYS not in said(book):
        print(f'{path.name}: not saved, because UAR_RUNS names no trained runs as it did before')
        save = False
    if save:
        from execnb.nbio import read_nb, write_nb
        from nbdev.clean import clean_nb

        for old, new in zip(book.cells, run.cells, strict=True):
            if old.cell_type == 'code' and '#| eval: false' not in old.source:
                old.outputs = join_streams(new.get('outputs', []))
        nbformat.write(book, path)
        nb = read_nb(path)
        clean_nb(nb, allowed_cell_metadata_keys=pages.CELL_METADATA)
        write_nb(nb, path)
    print(f"{path.name}: {took['seconds']:.1f} s, {took['memory_mb']} MB")
    return took


def machine():
    "The hardware and versions, in general words."
    from importlib.metadata import version

    memory = (
        os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
        if hasattr(os, 'sysconf')
        else None
    )
    return dict(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count(),
        architecture=platform.machine(),
        system=platform.system(),
        memory_gb=memory and round(memory),
        threads=int(os.environ.get('OMP_NUM_THREADS', 0)) or None,
        python=platform.python_version(),
        torch=version('torch').split('+')[0],
        data='UAR_DATA' in os.environ,
    )


def merge(kept, took, here):
    """Kept measurements with new ones in their place. A row has a machine of its own where it is
    not the one of all others."""
    rows = {**kept['notebooks'], **{name: dict(what, machine=here) for name, what in took.items()}}
    if kept['machine'] == here or all(r.get('machine') == here for r in rows.values()):
        kept = dict(machine=here)
        rows = {
            name: {k: v for k, v in r.items() if k != 'machine' or v != here}
            for name, r in rows.items()
        }
    return dict(machine=kept['machine'], notebooks={name: rows[name] for name in sorted(rows)})


def note(took):
    """Merge measurements, by page id, into data/results/notebooks.json; notebooks that are gone
    leave it."""
    from uar_nb.core import atomic_write

    here, there = machine(), set(pages.page_ids(RESULTS.parents[2] / 'nbs'))
    kept = (
        json.loads(RESULTS.read_text(encoding='utf-8'))
        if RESULTS.exists()
        else dict(machine=here, notebooks={})
    )
    kept['notebooks'] = {k: v for k, v in kept['notebooks'].items() if k in there}
    atomic_write(RESULTS, merge(kept, {k: v for k, v in took.items() if k in there}, here))


def table():
    "Markdown of what every notebook took."
    found = json.loads(RESULTS.read_text(encoding='utf-8'))
    at, rows = found['machine'], found['notebooks']

    def peak(r):
        return max(r['memory_mb'] or 0, r['children_mb'] or 0) / 1024

    def line(name, seconds, memory):
        return f"| {name} | {seconds / 60:.1f} | {f'{memory:.1f} GB' if memory else '–'} |"

    lines = [
        '| notebook | minutes | peak memory |',
        '|---|---|---|',
        *(
            line(
                f'[`{name}`]({name}.ipynb)' + ' on another machine' * ('machine' in r),
                r['seconds'],
                peak(r),
            )
            for name, r in rows.items()
        ),
    ]
    lines.append(
        line(
            f'all {len(rows)}, one after the other',
            sum(r['seconds'] for r in rows.values()),
            max(map(peak, rows.values())),
        )
    )
    about = f"Measured on {at['cores']} CPU cores ({at['architecture']}, {at['memory_gb']} GB, no GPU), {at['threads'] or 'all'} thread{'s' if at['threads'] != 1 else ''}, Python {at['python']}, torch {at['torch']}."  # noqa: E501
    return about + '\n\n' + '\n'.join(lines)


if __name__ == '__main__':
    names = [n for n in sys.argv[1:] if not n.startswith('--')]
    if not names and '--measure' in sys.argv:
        names = measured_pages()
    if not names and '--all' in sys.argv:
        names = pages.to_run()
    if not names and '--table' not in sys.argv:
        raise SystemExit(__doc__)
    sys.path.insert(0, str(ROOT))
    os.environ['PYTHONPATH'] = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    if '--table' in sys.argv:
        print(table())
    for name in names:
        took = run_notebook(name, save='--measure' not in sys.argv)
        if took:
            note({pages.page_id(name): took})
