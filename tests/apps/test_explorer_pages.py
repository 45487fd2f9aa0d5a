"""The explorers that stand ready as pages: small, alone, and equal to what the model says now; used
with a mouse, with keys and on a small screen in a real browser."""

import base64
import functools
import io
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

import docs
from browser import CHROMIUM, Browser
from pages import NBS
from uar_nb.apps.explorer_pages import (
    CROPPED,
    PAGES,
    STUDIES,
    chosen_studies,
    explorer_page,
    unpack_states,
)
from uar_nb.apps.explorers import explore_words, word_probabilities
from uar_nb.apps.reporter import Reporter
from uar_nb.checkpoint import load_checkpoint
from uar_nb.core import DISCLAIMER
from uar_nb.data.labels import read_findings
from uar_nb.data.study import Finding
from uar_nb.experiment.prepare import make_data
from uar_nb.phantom.generator import draw_study

FOLDER = NBS / 'explorers'


@functools.cache
def html_of(name):
    return (FOLDER / f'{name}.html').read_text(encoding='utf-8')


@functools.cache
def states_of(name):
    return unpack_states(html_of(name))


@functools.cache
def shipped():
    return load_checkpoint('phantom-small')


@functools.cache
def study_data(numbers):
    studies, model = chosen_studies(numbers), shipped()
    return make_data(studies, model.data, model.vocabulary, model.tokenizer)['test']


# ---- the files


def test_there_are_four_pages_below_three_megabytes():
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(PAGES)
    for name in PAGES:
        assert len(html_of(name).encode()) < 3 * 2**20, name


@pytest.mark.parametrize('name', PAGES)
def test_a_page_needs_nothing_from_anywhere(name):
    text = html_of(name)
    assert not re.findall(r'https?:|(?:src|url)\s*[=(]\s*["\']?//|@import|\bfetch\(|XMLHttp', text)
    linked = set(re.findall(r'(?:href|src)="([^"]*)"', text))
    assert linked == {'data:,', *(f'{other}.html' for other in PAGES)}
    assert DISCLAIMER in text and 'teaching only' in DISCLAIMER and 'never for diag' in DISCLAIMER


@pytest.mark.parametrize('name', PAGES)
def test_a_page_is_made_of_the_present_files_of_the_package(name):
    text = html_of(name)
    about = re.search(r'<p>(The model is .*? used\.) ', text)[1]
    assert explorer_page(name, states_of(name), about) == text, 'run make explorers'


# ---- the states, computed once more


@pytest.mark.parametrize('number', [8, 34])
def test_attention_is_that_of_the_model(number):
    state = states_of('words')['studies'][STUDIES.index(number)]
    data = study_data((number,))
    assert state['words'] == data.references[0].split()
    live = explore_words(shipped().model, data, 0)
    for word, layer, head in ((0, 0, 0), (7, 1, 3), (len(state['words']) - 2, 1, 'mean')):
        at = 0 if head == 'mean' else head + 1
        kept = state['attention'][layer][at][word]
        titles = [axis.get_title() for axis in live.figure(word=word, layer=layer, head=head).axes]
        said = [int(re.search(r'(\d+)% of the attention', title)[1]) for title in titles]
        assert np.allclose(said, [100 * share for share in kept['shares']], atol=0.51)
        assert math.isclose(sum(kept['shares']), 1, abs_tol=2e-3)
        parts = np.frombuffer(base64.b64decode(kept['map']), np.uint8).reshape(2, 196)
        shares = parts.sum(1) / parts.sum()
        assert np.allclose(shares, kept['shares'], atol=0.03), (word, layer, head)


def test_each_change_costs_what_the_model_says():
    "Every tenth change of two reports, one word list after another, with both X-rays."
    checked = set()
    for number in (0, 8):
        at = STUDIES.index(number)
        after = STUDIES[(at + 1) % len(STUDIES)]
        state, data = states_of('edits')['studies'][at], study_data((number, after))
        assert state['words'] == data.references[0].split()
        assert len(state['changes']) > 50
        for change in state['changes'][:: len(state['changes']) // 12]:
            checked.add(change['kind'])
            place = change['place']
            text = ' '.join(state['words'][:place] + change['words'])
            for kind, index in (('own', 0), ('strange', 1)):
                live = [
                    row.probability
                    for row in word_probabilities(shipped().model, data, index, text)
                ]
                kept = [*state[kind][:place], *change[kind]]
                assert np.allclose(np.exp(kept), live, rtol=3e-3, atol=1e-4), (text, kind)
    assert checked >= {'word', 'leave out'}


def test_the_most_probable_words_come_first_and_are_the_models_own():
    state, data = states_of('edits')['studies'][STUDIES.index(8)], study_data((8, 19))
    model, vocabulary = shipped().model, shipped().vocabulary
    with torch.no_grad():
        logits = model(data.batch([0])).logits[0].log_softmax(-1)
    for place in (0, 5, len(state['words'])):
        best = logits[place].topk(5)
        assert [word for word, _ in state['likely']['own'][place]] == [
            vocabulary.words[i] for i in best.indices
        ]
        kept = [value for _, value in state['likely']['own'][place]]
        assert np.allclose(kept, best.values, atol=2e-3)


def test_tokens_and_paintings_are_those_of_the_tokenizer():
    tokenizer = shipped().tokenizer
    for number, state in zip(CROPPED, states_of('crops')['studies'], strict=True):
        [study] = chosen_studies((number,))
        whole = torch.from_numpy(study.views[0].pixels.copy()).float()[None, None] / 255
        tokens = np.frombuffer(base64.b64decode(state['tokens']), '<u2').reshape(17, 17, 196)
        sheet = Image.open(io.BytesIO(base64.b64decode(state['sheet'].partition(',')[2])))
        sheet = np.asarray(sheet.convert('L')).reshape(17, 112, 17, 112).swapaxes(1, 2)
        for top, left in ((0, 0), (1, 0), (16, 5)):
            ids = tokenizer.encode(whole[:, :, top : top + 112, left : left + 112])
            assert np.array_equal(ids[0], tokens[top, left]), (number, top, left)
            painted = 255 * tokenizer.decode(ids).detach()[0, 0].clamp(0, 1).numpy()
            assert np.abs(painted - sheet[top, left]).mean() < 4


def test_reports_of_phantoms_are_those_of_the_model():
    phantoms, seconds = states_of('phantom')['phantoms'], states_of('phantom')['seconds']
    assert len(phantoms) > 300 and seconds[1] == 'right upper nodule'
    by_choice = {(tuple(p['first'] or ()), p['second']): p for p in phantoms}
    assert len(by_choice) == len(phantoms)
    effusion = Finding('effusion', 'left', '', 'severe')
    nodule = Finding('nodule', 'right', 'upper')
    wanted = {((), None): (), (('effusion', 'left', '', 'severe'), 1): (effusion, nodule)}
    for choice, findings in wanted.items():
        views, drawn = draw_study(findings, 'explorer', 0, 0)
        [report] = Reporter(shipped())([list(views)], beams=3)
        kept = by_choice[choice]
        assert kept['report'] == report.text
        written = {finding.key for finding in read_findings(report.text)}
        seen = [finding.key in written for finding in findings]
        assert [kind == 'seen' for kind, *_ in kept['verdict'][: len(findings)]] == seen
        boxes = [box for box in kept['findings'] for _ in box['boxes'].get('frontal', ())]
        assert len(boxes) == sum(len(f.boxes.get('frontal', ())) for f in drawn)
    kinds = {kind for p in phantoms for kind, *_ in p['verdict']}
    assert kinds == {'seen', 'missed', 'invented'}


# ---- in a real browser

needs_browser = pytest.mark.skipif(not CHROMIUM, reason='there is no Chromium on this machine')


@pytest.fixture(scope='module')
def browser():
    pytest.importorskip('websocket')
    one = Browser(1280, 900)
    yield one
    one.close()


def opened(browser, name, width=1280, scheme='light'):
    "The page, ready, on a screen of this width."
    screen = dict(width=width, height=850, deviceScaleFactor=1, mobile=width < 500)
    browser.send('Emulation.setDeviceMetricsOverride', **screen)
    media = [dict(name='prefers-color-scheme', value=scheme)]
    browser.send('Emulation.setEmulatedMedia', features=media)
    browser.events.clear()
    browser.open((FOLDER / f'{name}.html').as_uri() + f'?{width}{scheme}')
    browser.wait(
        f"document.body?.dataset.ready === 'yes' && location.search === '?{width}{scheme}'",
        60,
        name,
    )


def press(browser, key):
    for kind in ('keyDown', 'keyUp'):
        browser.send('Input.dispatchKeyEvent', type=kind, key=key, code=key)


def texts(browser, selector):
    return browser.run(f'[...document.querySelectorAll({selector!r})].map(e => e.textContent)')


def click(browser, label):
    found = browser.run(
        f'(b => b ? (b.click(), true) : false)'
        f'([...document.querySelectorAll("button")].find(b => b.textContent === {label!r}))'
    )
    assert found, label


# Lightness of a CSS colour, 0 to 1
BRIGHT = (
    """(c => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number); return (r + g + b) / 765 })"""
)


@needs_browser
@pytest.mark.parametrize('name', PAGES)
@pytest.mark.parametrize('width,scheme', [(390, 'light'), (390, 'dark'), (1280, 'dark')])
def test_a_page_fits_the_screen_and_has_contrast(browser, name, width, scheme):
    opened(browser, name, width, scheme)
    assert browser.run('document.documentElement.scrollWidth <= innerWidth')
    assert not browser.console_errors()
    assert all(url.startswith(('file:', 'data:', 'blob:')) for url in browser.requests())
    ink, back = (
        browser.run(f'{BRIGHT}(getComputedStyle(document.body).{part})')
        for part in ('color', 'backgroundColor')
    )
    assert (ink > 0.8 and back < 0.2) if scheme == 'dark' else (ink < 0.2 and back > 0.8)
    assert browser.run('document.body.innerText').count(DISCLAIMER) == 1
    small = browser.run(
        '[...document.querySelectorAll("main button, main input[type=range]")]'
        '.filter(b => b.getBoundingClientRect().height < 24).map(b => b.textContent)'
    )
    assert not small, f'too small for a finger: {small}'
    light = browser.run(
        "[...document.querySelectorAll('canvas')].map(c => [...c.getContext('2d')"
        '.getImageData(0, 0, c.width, c.height).data].some((v, i) => i % 4 < 3 && v > 120))'
    )
    assert light and all(light)  # something is drawn on each


@needs_browser
def test_click_a_word_and_step_on_with_keys(browser):
    opened(browser, 'words')
    study = states_of('words')['studies'][1]
    click(browser, ', '.join(finding['name'] for finding in study['findings']))
    place = study['words'].index('effusion')

    def said(layer, head, word):
        shares = study['attention'][layer][head][word]['shares']
        peak = study['attention'][layer][head][word]['peak']
        shown = [int(re.search(r'(\d+) %', text)[1]) for text in texts(browser, 'figcaption')]
        assert np.allclose(shown, [100 * share for share in shares], atol=0.51)
        text = texts(browser, '.say')[0]
        assert f'“{study["words"][word]}”' in text and f'{100 * peak:.1f} %' in text

    before = browser.run("document.querySelector('canvas').toDataURL()")
    click(browser, 'head 2')
    click(browser, 'effusion')
    said(1, 3, study['words'].index('effusion'))
    assert browser.run("document.querySelector('canvas').toDataURL()") != before
    browser.run("document.querySelector('.word[aria-pressed=true]').focus()")
    press(browser, 'ArrowRight')
    said(1, 3, place + 1)
    click(browser, 'layer 0')
    said(0, 3, place + 1)
    plain = browser.run("document.querySelector('canvas').toDataURL()")
    browser.run("document.querySelector('input[type=checkbox]').click()")
    assert browser.run("document.querySelector('canvas').toDataURL()") != plain


@needs_browser
def test_edit_a_report(browser):
    opened(browser, 'edits')
    study = states_of('edits')['studies'][1]
    click(browser, ', '.join(study['findings']))

    def shown():
        labels = browser.run(
            "[...document.querySelectorAll('.word')].map(w => w.getAttribute('aria-label'))"
        )
        return [label.rsplit(', probability ', 1) for label in labels]

    def agrees(words, costs):
        got = shown()
        assert [word for word, _ in got] == words
        for (_, said), cost in zip(got, costs, strict=False):
            share = 100 * math.exp(cost)
            number = int(re.search(r'\d+', said)[0])
            assert abs(number - share) <= 0.51 or (said == '< 1 %' and share < 1)

    agrees(study['words'], study['own'])
    click(browser, 'another patient’s')
    agrees(study['words'], study['strange'])
    click(browser, 'its own X-ray')
    change = next(c for c in study['changes'] if c['kind'] == 'word' and c['words'][0] == 'right')
    place = change['place']
    browser.run(f"document.querySelectorAll('.word')[{place}].click()")
    options = "[...document.querySelectorAll('button.option')]"
    browser.run(f"{options}.find(b => b.textContent.startsWith('right')).click()")
    agrees(study['words'][:place] + change['words'], study['own'][:place] + change['own'])
    assert texts(browser, '.word.changed') == ['right']
    click(browser, '↺ the true report again')
    click(browser, 'there is a left pacemaker')
    added = next(c for c in study['changes'] if c['words'] == 'there is a left pacemaker .'.split())
    agrees(study['words'] + added['words'], study['own'][:-1] + added['own'])
    click(browser, '↺ the true report again')
    browser.run("document.querySelectorAll('.word')[0].click()")
    click(browser, 'leave this sentence out')
    assert len(shown()) < len(study['words'])


@needs_browser
def test_drag_the_crop_with_the_mouse_and_with_keys(browser):
    opened(browser, 'crops')
    state = states_of('crops')['studies'][0]
    tokens = np.frombuffer(base64.b64decode(state['tokens']), '<u2').reshape(17, 17, 196)

    def stands_at(top, left):
        number = (tokens[top, left] != tokens[0, 0]).sum()
        text = texts(browser, '.big')[0]
        assert text.startswith(f'{number} of 196 tokens changed'), text
        assert re.search(rf' {top} rows? down and {left} columns? to the right', text), text

    stands_at(1, 0)
    box = browser.run(
        "(r => [r.left, r.top, r.width])(document.querySelector('.drag').getBoundingClientRect())"
    )
    start = [box[0] + box[2] / 2, box[1] + box[2] / 2]
    step = box[2] / 128
    mouse = functools.partial(browser.send, 'Input.dispatchMouseEvent', button='left')
    mouse(type='mousePressed', x=start[0], y=start[1], clickCount=1)
    mouse(type='mouseMoved', x=start[0] + 5 * step, y=start[1] + 3 * step)
    stands_at(4, 5)
    mouse(type='mouseMoved', x=start[0] + 500, y=start[1] - 500)
    stands_at(0, 16)
    mouse(type='mouseReleased', x=start[0], y=start[1], clickCount=1)
    browser.run("document.querySelector('.drag').focus()")
    for key in ('ArrowDown', 'ArrowDown', 'ArrowLeft'):
        press(browser, key)
    stands_at(2, 15)
    click(browser, '↺ the first crop')
    stands_at(0, 0)


@needs_browser
def test_build_a_phantom_with_keys_alone(browser):
    opened(browser, 'phantom', 390)
    phantoms = states_of('phantom')['phantoms']

    def agrees(first, second):
        found = next(p for p in phantoms if p['first'] == first and p['second'] == second)
        said = texts(browser, '.written')[0].lower().replace('.', ' .')
        assert said.split() == found['report'].split()
        rows = texts(browser, '.verdict li')
        for (kind, name, _), row in zip(found['verdict'], rows, strict=False):
            assert row.startswith(kind + name)

    agrees(['effusion', 'left', '', 'severe'], 1)
    browser.run(
        "[...document.querySelectorAll('button')].find(b => b.textContent === 'effusion').focus()"
    )
    press(browser, 'ArrowRight')
    agrees(['opacity', 'left', 'upper', 'severe'], 1)
    press(browser, 'ArrowRight')
    agrees(['nodule', 'left', 'upper', ''], 1)
    browser.run(
        "[...document.querySelectorAll('button')].find(b => b.textContent === 'none').click()"
    )
    first = next(p for p in phantoms if p['first'] is None and p['second'] == 1)
    assert texts(browser, '.verdict li b') == [kind for kind, *_ in first['verdict']]
    click(browser, 'cardiomegaly')
    options = texts(browser, '.chips button')
    assert 'zone' not in texts(browser, 'legend') and 'left' not in options


# ---- how readers find them


@pytest.mark.parametrize('page', ['index', 'results/17_explore'])
def test_links_to_the_explorers_lead_to_the_site_of_the_settings(page):
    text = (NBS / f'{page}.ipynb').read_text(encoding='utf-8')
    linked = re.findall(r'\]\(([^)]*explorers/\w+\.html)\)', text)
    assert sorted(linked) == sorted(f'{docs.SITE}explorers/{name}.html' for name in PAGES)


def test_the_site_leads_home_from_each(tmp_path):
    for name in PAGES:
        (tmp_path / f'{name}.html').write_text(html_of(name), encoding='utf-8')
    docs.lead_home(tmp_path)
    for name in PAGES:
        text = (tmp_path / f'{name}.html').read_text(encoding='utf-8')
        assert text.count('href="../results/explore.html"') == 1
    with pytest.raises(SystemExit, match='make explorers'):
        docs.lead_home(tmp_path)
