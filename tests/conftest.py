"What several test files share: the prepared pages and the site made of them, once a session."

import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'tools'))
import check_site
import docs
import website
from forge import Forge

# What starts in the background ignores Ctrl-C or a lost terminal, and so would all that is tested
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, 'SIGHUP'):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope='session')
def prepared(tmp_path_factory):
    "The folder of some pages as nbdev prepares them; the whole site is for slow tests."
    return docs.process(tmp_path_factory.mktemp('prepared'), check_site.SMALL)


@pytest.fixture(scope='session')
def site(prepared, tmp_path_factory):
    "The folder of the rendered small site."
    out = tmp_path_factory.mktemp('site') / 'html'
    website.render(prepared, out)
    return out


@pytest.fixture(scope='module')
def forge():
    "The server of commands, one per module."
    with Forge() as f:
        yield f
