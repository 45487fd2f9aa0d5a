"What several test files share: the prepared pages and the site made of them, once a session."

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'tools'))
import docs
import website


@pytest.fixture(scope='session')
def prepared(tmp_path_factory):
    "The folder of pages as nbdev prepares them."
    return docs.process(tmp_path_factory.mktemp('prepared'))


@pytest.fixture(scope='session')
def site(prepared, tmp_path_factory):
    "The folder of the rendered site."
    out = tmp_path_factory.mktemp('site') / 'html'
    website.render(prepared, out)
    return out
