"The explorers in JupyterLab, in a real browser: run, click, and look at what changed."

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from browser import CHROMIUM, Browser, free_port
from pages import find_page

pytestmark = pytest.mark.skipif(not CHROMIUM, reason='there is no Chromium on this machine')


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "JupyterLab over a copy of the notebook."
    home, port = tmp_path_factory.mktemp('lab'), free_port()
    shutil.copy(find_page('explore', kind='analysis'), home / 'explore.ipynb')
    there = dict(
        os.environ,
        JUPYTER_CONFIG_DIR=str(home / '.config'),
        JUPYTER_DATA_DIR=str(home / '.data'),
        JUPYTERLAB_WORKSPACES_DIR=str(home / '.spaces'),
        OMP_NUM_THREADS='1',
    )
    server = subprocess.Popen(
        [
            sys.executable,
            '-m',
            'jupyterlab',
            '--no-browser',
            '--allow-root',
            '--ip=127.0.0.1',
            f'--port={port}',
            '--ServerApp.token=',
            '--ServerApp.password=',
            f'--ServerApp.root_dir={home}',
            '--LabApp.expose_app_in_browser=True',
            '--LabApp.news_url=',
        ],
        cwd=home,
        env=there,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(150):
        try:
            urllib.request.urlopen(f'http://127.0.0.1:{port}/api', timeout=2).read()
            break
        except OSError:
            time.sleep(0.4)
    yield f'http://127.0.0.1:{port}'
    server.terminate()
    server.wait(30)


BOOK = "[...window.jupyterapp.shell.widgets('main')].find(w => w.sessionContext && w.content?.widgets)"  # a page without a window has no current widget


# One control each, as JavaScript in an explorer's cell (HERE)
def click(word):
    return (
        "(b => (b.find(x => x.textContent.trim() === %r).click(), true))([...HERE.querySelectorAll('button.widget-toggle-button')])"
        % word
    )


def slide(number, value):
    return (
        "(r => { r.textContent = '%s'; r.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', keyCode: 13, bubbles: true})); return true })(HERE.querySelectorAll('.widget-readout')[%d])"
        % (value, number)
    )


def choose(number, text):
    return (
        "(s => { s.selectedIndex = [...s.options].findIndex(o => o.text === %r); s.dispatchEvent(new Event('change', {bubbles: true})); return true })(HERE.querySelectorAll('select')[%d])"
        % (text, number)
    )


def write(text):
    return (
        """(t => { Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value').set.call(t, %r);
          for (const e of ['input', 'change', 'blur']) t.dispatchEvent(new Event(e, {bubbles: true})); return true })(HERE.querySelector('textarea'))"""
        % text
    )


# For each explorer of the page: (what is moved, what its text must then say, whether the figure
# must change)
MOVES = [
    [
        (click('spine'), ('spine: frontal', 'layer 1, mean of heads'), True),
        (slide(0, 0), ('spine: frontal', 'layer 0, mean of heads'), True),
        (choose(0, '3'), ('spine: lateral', 'layer 0, head 3'), True),
    ],
    [
        (write('the heart is normal .'), ('study 0: mean log-probability',), True),
        (slide(0, 3), ('study 3: mean log-probability',), True),
    ],
    [
        (slide(1, 2), ('rank 2: cosine',), True),
        (slide(0, 5), ('rank 2: cosine',), True),
        (slide(1, 1), ('rank 1: cosine',), True),
    ],
    [
        (slide(0, 2), ('crop from row 2, column 0', 'of 196 differ'), True),
        (slide(1, 5), ('crop from row 2, column 5', 'of 196 differ'), True),
        (slide(0, 0), ('crop from row 0, column 5',), True),
        (slide(1, 0), ('crop from row 0, column 0', 'tokens: 0 of 196 differ'), True),
    ],
    [
        (choose(0, 'sternotomy'), ('sternotomy',), True),
        (choose(4, 'effusion'), ('sternotomy', 'left', 'effusion'), True),
        (choose(5, 'right'), ('sternotomy', 'right', 'effusion'), True),
        (choose(6, 'upper'), ('effusion', 'zone'), False),
        (choose(6, ''), ('right', 'effusion'), False),
    ],  # an effusion has no zone: said in words, the figure stays
]


def test_explorers_follow_their_controls(lab):
    browser = Browser(1280, 1000)

    def js(script):
        return script.replace('BOOK', BOOK)

    run, wait = (
        lambda script: browser.run(js(script)),
        lambda script, seconds, what: browser.wait(js(script), seconds, what),
    )
    try:
        browser.open(f'{lab}/lab/tree/explore.ipynb')
        wait(
            'window.jupyterapp && BOOK?.content.widgets.length > 5',
            120,
            'JupyterLab did not open the notebook',
        )
        wait("BOOK.sessionContext?.session?.kernel?.status === 'idle'", 120, 'no kernel')
        run('(window.jupyterapp.shell.activateById(BOOK.id), true)')
        run("window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => true)")
        wait(
            "BOOK.sessionContext.session.kernel.status === 'idle' && BOOK.content.widgets.filter(c => c.model.type === 'code').every(c => c.model.executionCount)",
            240,
            'the cells did not end',
        )
        wrong = run(
            "BOOK.content.widgets.flatMap(c => c.model.type === 'code' ? c.model.outputs.toJSON().filter(o => o.output_type === 'error').map(o => o.evalue) : [])"
        )
        assert wrong == [], wrong
        cells = run(
            "BOOK.content.widgets.map((c, i) => [i, c.model.sharedModel.getSource()]).filter(x => x[1].includes('.open()')).map(x => x[0])"
        )
        assert len(cells) == len(MOVES)
        for cell, moves in zip(cells, MOVES, strict=True):
            run(f"BOOK.content.scrollToItem({cell}, 'start')")
            here = f'BOOK.content.widgets[{cell}].node'
            said, figure = (
                f"([...{here}.querySelectorAll('.widget-html-content')].pop()?.textContent ?? '')",
                f"{here}.querySelector('img').src",
            )
            wait(
                f"{here}.querySelector('img')?.naturalWidth > 50",
                60,
                f'no figure below cell {cell}',
            )
            for n, (move, texts, changes) in enumerate(moves):
                before, text = run(figure), run(said)
                run(move.replace('HERE', here))
                try:
                    wait(
                        f"{said} !== {text!r} && "
                        + ' && '.join(f'{said}.includes({x!r})' for x in texts),
                        60,
                        '',
                    )
                except TimeoutError:
                    raise AssertionError(
                        f'cell {cell}, move {n}: the text is {run(said)!r}, without {texts}'
                    ) from None
                assert (run(figure) != before) == changes, f'cell {cell}, move {n}: the figure ' + (
                    'stayed' if changes else 'changed'
                )
                if os.environ.get('UAR_SCREENSHOTS'):
                    browser.screenshot(
                        Path(os.environ['UAR_SCREENSHOTS']) / f'explorer_{cell}_{n}.png'
                    )
    finally:
        browser.close()
