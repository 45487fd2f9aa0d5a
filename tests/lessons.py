"Runs notebooks from top to bottom and writes their outputs back, clean: `python tests/lessons.py nbs/*.ipynb`."
import os, sys, time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbdev.clean import clean_nb
from execnb.nbio import read_nb, write_nb

SKIP = ('nbdev_export()', '#| eval: false')
RUN = 'skip_exec: true'


def join_streams(outputs):
    "Neighbouring outputs of one stream as one: a kernel may split a single print."
    joined = []
    for out in outputs:
        last = joined[-1] if joined else None
        if out['output_type'] == 'stream' and last is not None and last['output_type'] == 'stream' and last['name'] == out['name']: last['text'] += out['text']
        else: joined.append(out)
    return joined


def run_notebook(path):
    "Execute one notebook in its own folder and save it; cells that a lesson does not run are left as they are."
    path = Path(path)
    book = nbformat.read(path, as_version=4)
    if any(RUN in c.source for c in book.cells[:2]): return print(f'{path.name}: a training run, left as it is')
    run = nbformat.reads(nbformat.writes(book), as_version=4)
    for cell in run.cells:
        if cell.cell_type == 'code' and any(s in cell.source for s in SKIP): cell.source = 'pass'
    start = time.time()
    NotebookClient(run, timeout=900, kernel_name='python3', resources={'metadata': {'path': str(path.parent)}}).execute()
    for old, new in zip(book.cells, run.cells):
        if old.cell_type == 'code' and '#| eval: false' not in old.source: old.outputs = join_streams(new.get('outputs', []))
    nbformat.write(book, path)
    nb = read_nb(path)
    clean_nb(nb)
    write_nb(nb, path)
    print(f'{path.name}: {time.time()-start:.1f} s')


if __name__ == '__main__':
    os.environ['PYTHONPATH'] = os.pathsep.join([str(Path(__file__).resolve().parents[1]), os.environ.get('PYTHONPATH', '')])
    for name in sys.argv[1:]: run_notebook(name)
