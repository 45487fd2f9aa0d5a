"The explorers in JupyterLab, in a real browser: run, click, and look at what changed."
import os, shutil, subprocess, sys, time, urllib.request
from pathlib import Path

import pytest

from browser import CHROMIUM, Browser, free_port

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not CHROMIUM, reason='there is no Chromium on this machine')


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "JupyterLab over a copy of the notebook."
    home, port = tmp_path_factory.mktemp('lab'), free_port()
    shutil.copy(ROOT/'nbs'/'46_explore.ipynb', home)
    there = dict(os.environ, JUPYTER_CONFIG_DIR=str(home/'.config'), JUPYTER_DATA_DIR=str(home/'.data'), JUPYTERLAB_WORKSPACES_DIR=str(home/'.spaces'), OMP_NUM_THREADS='1')
    server = subprocess.Popen([sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', '--ip=127.0.0.1', f'--port={port}', '--ServerApp.token=', '--ServerApp.password=', f'--ServerApp.root_dir={home}',
                               '--LabApp.expose_app_in_browser=True', '--LabApp.news_url='], cwd=home, env=there, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(150):
        try: urllib.request.urlopen(f'http://127.0.0.1:{port}/api', timeout=2).read(); break
        except OSError: time.sleep(.4)
    yield f'http://127.0.0.1:{port}'
    server.terminate()
    server.wait(30)


BOOK = "[...window.jupyterapp.shell.widgets('main')].find(w => w.sessionContext && w.content?.widgets)"  # a page without a window has no current widget


CLICK = "(b => (b[b.length - 2].click(), true))(HERE.querySelectorAll('button.widget-toggle-button'))"
WRITE = """(t => { Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value').set.call(t, 'the heart is normal .');
          for (const e of ['input', 'change', 'blur']) t.dispatchEvent(new Event(e, {bubbles: true})); return true })(HERE.querySelector('textarea'))"""
SLIDE = """(all => { const r = all[all.length - 1]; r.textContent = '2'; r.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', keyCode: 13, bubbles: true})); return true })(HERE.querySelectorAll('.widget-readout'))"""
SELECT = "(s => { s.selectedIndex = [...s.options].findIndex(o => o.text === 'sternotomy'); s.dispatchEvent(new Event('change', {bubbles: true})); return true })(HERE.querySelector('select'))"


def test_explorers_follow_their_controls(lab):
    browser = Browser(1280, 1000)
    js = lambda script: script.replace('BOOK', BOOK)
    run, wait = lambda script: browser.run(js(script)), lambda script, seconds, what: browser.wait(js(script), seconds, what)
    try:
        browser.open(f'{lab}/lab/tree/46_explore.ipynb')
        wait('window.jupyterapp && BOOK?.content.widgets.length > 5', 120, 'JupyterLab did not open the notebook')
        wait("BOOK.sessionContext?.session?.kernel?.status === 'idle'", 120, 'no kernel')
        run('(window.jupyterapp.shell.activateById(BOOK.id), true)')
        run("window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => true)")
        wait("BOOK.sessionContext.session.kernel.status === 'idle' && BOOK.content.widgets.filter(c => c.model.type === 'code').every(c => c.model.executionCount)", 240, 'the cells did not end')
        wrong = run("BOOK.content.widgets.flatMap(c => c.model.type === 'code' ? c.model.outputs.toJSON().filter(o => o.output_type === 'error').map(o => o.evalue) : [])")
        assert wrong == [], wrong
        cells = run("BOOK.content.widgets.map((c, i) => [i, c.model.sharedModel.getSource()]).filter(x => x[1].includes('.open()')).map(x => x[0])")
        assert len(cells) == 5
        for cell, change in zip(cells, (CLICK, WRITE, SLIDE, SLIDE, SELECT)):
            run(f"BOOK.content.scrollToItem({cell}, 'start')")
            here = f'BOOK.content.widgets[{cell}].node'
            wait(f"{here}.querySelector('img')?.naturalWidth > 50", 60, f'no picture below cell {cell}')
            before = run(f"{here}.querySelector('img').src")
            run(change.replace('HERE', here))
            wait(f"{here}.querySelector('img').src !== {before!r}", 60, f'the figure of cell {cell} did not follow')
            if os.environ.get('UAR_PICTURES'): browser.picture(Path(os.environ['UAR_PICTURES'])/f'explorer_{cell}.png')
    finally: browser.close()
