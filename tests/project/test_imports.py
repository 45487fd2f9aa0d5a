"""Who may import whom, no private names, no circles, nothing at import time: as tools/imports.py
reads it; proved on breaches planted in a toy package."""

import pytest

import imports
import pages
from imports import GROUPS, Actions, Reader, breaches, circles, package_modules
from pages import ROOT

MODULES = 56  # no fewer are looked at


def test_the_package_keeps_the_order():
    order = list(pages.lessons())
    assert len(package_modules(ROOT / 'uar_nb')) >= MODULES
    assert sorted(order) == sorted(package_modules(ROOT / 'uar_nb'))
    assert breaches(ROOT / 'uar_nb', order) == []


def test_folders_of_the_package_hold_no_code():
    "`uar_nb/__init__.py` is the only one with names; tests/test_face.py looks at it."
    folders = [p for p in (ROOT / 'uar_nb').rglob('__init__.py') if p.parent != ROOT / 'uar_nb']
    assert len(folders) >= 9
    assert [p for p in folders if p.read_text(encoding='utf-8').strip()] == []


def test_every_group_is_there_or_comes_with_its_own_issue():
    parts = {imports.part_of(module) for module in package_modules(ROOT / 'uar_nb')}
    assert set(imports.RANK) - parts <= {'systems'}
    assert parts <= set(imports.RANK)
    assert len(imports.RANK) == sum(map(len, GROUPS))  # no part stands in two groups


# ---- the reader of imports

TOY = {
    'core': 'import json\nWORDS = tuple("a b".split())\n',
    'show.plots': 'from ..core import WORDS\n',
    'data.text': 'from ..core import WORDS\n',
    'data.study': 'from .text import encode\n',
    'tokenizer.dvae': 'from ..data.study import Study\n',
    'phantom.chest': 'from ..data import study\n',
    'attention': 'from .core import WORDS\n',
    'losses': 'from uar_nb.core import (\n    WORDS,\n)\n',
    'cra': 'from uar_nb import __version__\nfrom .attention import attend\n',
    'model': 'import uar_nb.cra as cra\n',
    'scoring.metrics': 'from ..data.text import encode\n',
    'training': 'from . import model\n',
    'apps.demo': 'from ..phantom.chest import Chest\nfrom ..show.plots import plot\n',
    'apps.cli': 'import typer\napp = typer.Typer()\n\n\n@app.command()\ndef demo(out: str = "runs"):\n    pass\n',  # noqa: E501
}


def toy(tmp_path, **changed):
    """A package that keeps every rule but where a module's text is replaced; `__` in a key
    stands for a dot."""
    folder = tmp_path / 'uar_nb'
    texts = TOY | {name.replace('__', '.'): text for name, text in changed.items()}
    for name, text in texts.items():
        path = folder / f'{name.replace(".", "/")}.py'
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / '__init__.py').touch()
        path.write_text(text, encoding='utf-8')
    return breaches(folder, list(texts))


def test_a_package_without_a_fault_has_none(tmp_path):
    assert toy(tmp_path) == []


IMPORTS = {
    # relative, absolute, as a module, in brackets, in a function, by importlib
    'from .show.plots import plot': 'show.plots',
    'from .show import plots': 'show.plots',
    'from . import training': 'training',
    'from .show import (\n    plots as figures,\n)': 'show.plots',
    'from uar_nb.show.plots import plot': 'show.plots',
    'from uar_nb.show.plots import (\n    plot,\n)': 'show.plots',
    'from uar_nb.show import plots': 'show.plots',
    'from uar_nb import training': 'training',
    'import uar_nb.show.plots': 'show.plots',
    'import json, uar_nb.show.plots as plots': 'show.plots',
    'import importlib\nplots = lambda: importlib.import_module("uar_nb.show.plots")': 'show.plots',
    'import importlib\nplots = lambda: importlib.import_module(".show.plots", __package__)': 'show.plots',  # noqa: E501
    'from importlib import import_module\ndef f(): return import_module(name="x") or import_module("uar_nb.training")': 'training',  # noqa: E501
    'plots = lambda: __import__("uar_nb.show.plots")': 'show.plots',
    'from uar_nb import show\ndef f(): return show.plots.plot': 'show.plots',
    'import uar_nb\ndef f(): return uar_nb.show.plots.plot': 'show.plots',
    'from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .training import Trainer': 'training',  # noqa: E501
    'try:\n    from .training import Trainer\nexcept ImportError:\n    Trainer = None': 'training',
}


@pytest.mark.parametrize('text', IMPORTS)
def test_an_import_from_below_is_seen_in_every_form(text, tmp_path):
    found = toy(tmp_path, cra=text + '\n')
    assert f'cra imports {IMPORTS[text]}' in found
    rest = [one for one in found if one != f'cra imports {IMPORTS[text]}']
    assert all(one.startswith('a circle') for one in rest), rest


PLAIN = [text for text in IMPORTS if text.startswith(('from .', 'import uar_nb', 'from uar_nb'))]


@pytest.mark.parametrize('text', [text for text in PLAIN if 'def ' not in text])
def test_an_import_within_a_function_or_method_counts(text, tmp_path):
    lines = text.split('\n')
    function = '\n    '.join(['def late():', *lines])
    method = '\n        '.join(['class Late:\n    def method(self):', *lines])
    for inside in (function, method):
        found = toy(tmp_path, cra=inside + '\n')
        assert f'cra imports {IMPORTS[text]}' in found, inside


def test_nothing_is_said_of_what_only_looks_like_an_import(tmp_path):
    text = '"from .training import Trainer"\nKIND = "uar_nb.training"  # a file format\n'
    assert toy(tmp_path, cra=text) == []


ORDER = [
    ('core', 'from .data.text import encode', 'core imports data.text'),
    ('show.plots', 'from ..data.text import encode', 'show.plots imports data.text'),
    ('data.text', 'from .study import Study', 'data.text imports data.study'),  # in its own wing
    ('data.study', 'from ..phantom.chest import Chest', 'data.study imports phantom.chest'),
    ('attention', 'from .losses import triplet', 'attention imports losses'),
    ('losses', 'from .cra import CRA', 'losses imports cra'),
    ('scoring.metrics', 'from ..training import Trainer', 'scoring.metrics imports training'),
    ('apps.demo', 'from .cli import app', 'apps.demo imports apps.cli'),
    # the order would allow these, the nevers do not
    ('attention', 'from .data.text import encode', 'attention imports data.text'),
    ('losses', 'from .phantom.chest import Chest', 'losses imports phantom.chest'),
    ('cra', 'from .tokenizer.dvae import DVAE', 'cra imports tokenizer.dvae'),
    ('model', 'from .show.plots import plot', 'model imports show.plots'),
    ('scoring.metrics', 'from ..phantom.chest import Chest', 'scoring.metrics imports phantom.chest'),  # noqa: E501
    ('training', 'def f():\n    from .show.plots import plot', 'training imports show.plots'),
    # other rules
    ('apps.demo', 'import typer', 'apps.demo imports typer'),
    ('training', 'def f():\n    from typer.testing import CliRunner', 'training imports typer'),
    ('cra', 'from uar_nb import CRA', 'cra takes CRA, not from its module'),
    ('cra', 'from . import Trainer', 'cra takes Trainer, not from its module'),
    ('cra', 'from .show import plot', 'cra takes show.plot, not from its module'),
    ('cra', 'import uar_nb.gone', 'cra imports gone, which is no module'),
    (
        'cra',
        'import importlib\ndef f(name): return importlib.import_module(f"uar_nb.{name}")',
        "cra computes a module name: f'uar_nb.{name}'",
    ),
    ('stray', 'import json', 'stray has no place in the order'),
    # private names
    ('model', 'from .cra import _fold', 'model takes cra._fold'),
    ('model', 'from .cra import CRA, _fold as fold', 'model takes cra._fold'),
    ('model', 'from uar_nb.cra import (\n    _fold,\n)', 'model takes cra._fold'),
    ('model', 'from . import cra\ndef f(): return cra._fold', 'model takes cra._fold'),
    ('model', 'from . import cra as c\nx = lambda: c._fold(3)', 'model takes cra._fold'),
    ('model', 'import uar_nb.cra\ndef f(): return uar_nb.cra._fold', 'model takes cra._fold'),
    ('model', 'import uar_nb.cra as c\ndef f(): return getattr(c, "_fold")', 'model takes cra._fold'),  # noqa: E501
    ('training', 'from .data import text\ndef f(): return text._table', 'training takes data.text._table'),  # noqa: E501
    ('training', 'from uar_nb import data\ndef f(): return data.text._table', 'training takes data.text._table'),  # noqa: E501
]  # fmt: skip


@pytest.mark.parametrize('module,text,breach', ORDER, ids=[b for _, _, b in ORDER])
def test_a_planted_breach_is_named(module, text, breach, tmp_path):
    found = toy(tmp_path, **{module.replace('.', '__'): text + '\n'})
    assert breach in found
    assert all(one == breach or one.startswith('a circle') for one in found), found


def test_a_circle_is_named(tmp_path):
    found = toy(tmp_path, cra='def f():\n    from .model import UAR\n')
    assert 'a circle: cra model' in found
    longer = circles({'a': {'b'}, 'b': {'c'}, 'c': {'a'}, 'd': {'a'}, 'e': {'e'}})
    assert longer == [('a', 'b', 'c'), ('e',)]
    assert circles({'a': {'b', 'c'}, 'b': {'c'}, 'c': set()}) == []


def test_own_private_names_and_dunders_are_free(tmp_path):
    text = 'from . import cra\nfrom .cra import __all__\n_own = 3\ndef f(self): return _own, self._x, cra.__file__\n'  # noqa: E501
    assert toy(tmp_path, model=text) == []


# ---- nothing happens at import

DOES = [
    'TABLE = read_json("table.json")',
    'TABLE = json.load(open("table.json"))',
    'TEXT = Path("words.txt").read_text()',
    'TEXT = (files("uar_nb") / "assets" / "words.txt").read_text()',
    'WEIGHTS = torch.load("weights.pt")',
    'ARRAY = np.load("array.npy")',
    'WORDS = [line.strip() for line in open("words.txt")]',
    'WORDS = {}\nfor word in ("a", "b"):\n    WORDS[word] = 1',
    'WORDS = {}\nWORDS["a"] = 1',
    'WORDS = []\nWORDS.append(1)',
    'WORDS = []\nWORDS += [1]',
    'WORDS = {}\nWORDS.update(a=1)',
    'print("hello")',
    'import warnings\nwarnings.filterwarnings("ignore")',
    'import matplotlib\nmatplotlib.use("Agg")',
    'import os\nos.environ["A"] = "b"',
    'import torch\ntorch.manual_seed(3)',
    'import torch\nSEED = torch.manual_seed(3)',
    'with open("words.txt") as f:\n    WORDS = f.read()',
    'while False:\n    pass',
    'assert True',
    'if True:\n    WORDS = read_json("x")',
    'try:\n    import json\n    WORDS = json.load(open("x"))\nexcept ImportError:\n    WORDS = None',  # noqa: E501
    'def load(path=open("words.txt")):\n    return path',
    'def load(*, words=read_words()):\n    return words',
    'class Words:\n    table = read_json("table.json")',
    'class Words:\n    for name in "ab":\n        pass',
    'class Words(make_base("x")):\n    pass',
    'from functools import cache\n@cache\ndef table(): return read_json("x")\nTABLE = table()',
    'def table(): return open("x").read()\nTABLE = table()',
    'def inner(): return open("x").read()\ndef table(): return inner()\nTABLE = table()',
    'class Table:\n    def __init__(self): self.text = open("x").read()\nTABLE = Table()',
    '@register\ndef f(): pass',
    '@registry.add("x")\ndef f(): pass',
    'from .attention import Attention\nAttention.forward = None',
    'from .attention import Attention\n@patch\ndef forward(self: Attention): pass',
    'from .attention import Attention\n@patch(cls_method=True)\ndef load(cls: Attention): pass',
    'WORDS = [print(x) for x in "ab"]',
    'WORDS = sorted("ab", key=download("x"))',
    'import typer\napp = typer.Typer()\napp.add_typer(app)',
]  # fmt: skip


@pytest.mark.parametrize('text', DOES)
def test_an_action_at_import_is_named(text):
    assert Actions(text, 'cra').found


DEFINES = [
    '"What the module is for"\nfrom __future__ import annotations\nimport json',
    'A, B = 3, "x" * 4\nC: int = -A\nNAMES = [*"abc"] + list(range(3))',
    'WORDS = "a b c".split()\nTABLE = {word: i for i, word in enumerate(WORDS)}\nBACK = dict(zip(TABLE.values(), TABLE))',  # noqa: E501
    'FORM = re.compile("|".join(map(re.escape, ["a"])))\nGRID = np.arange(3)',
    'Row = namedtuple("Row", "a b")\nT = TypeVar("T")\nLOCK = threading.Lock()',
    'load = lambda path: open(path).read()',
    'def load(path=None, *, words=frozenset("ab"), root=Path(".")):\n    return open(path)',
    '@functools.cache\ndef table(): return read_json("x")',
    '@torch.no_grad()\ndef f(): pass\n@contextmanager\ndef g(): yield',
    '@dataclass(frozen=True)\nclass Row:\n    "A row"\n    a: int = 3\n    b: list = field(default_factory=list)\n    @property\n    def c(self): return open("x")\n    d = property(lambda self: 3)',  # noqa: E501
    '@dataclass\nclass Plan:\n    n: int\nPLANS = dict(quick=Plan(3))',
    'class Strict(BaseModel):\n    model_config = ConfigDict(frozen=True)\n    n: int = Field(3, ge=0)\n    @field_validator("n")\n    def check(cls, n): return n',  # noqa: E501
    'class C: pass\n@patch\ndef f(self: C): pass\n@patch(as_prop=True)\ndef g(self: C): pass',
    'def steps(n): return [Stage(name="x", steps=n)]\nPLANS = dict(quick=steps(3))',
    'def make(kind, *, n=3):\n    found = []\n    found.append(kind)\n    return tuple(found)\nKINDS = make("a")',  # noqa: E501
    'try:\n    import torchvision\nexcept ImportError:\n    torchvision = None',
    'if TYPE_CHECKING:\n    import torch',
]  # fmt: skip


@pytest.mark.parametrize('text', DEFINES)
def test_a_definition_is_no_action(text):
    assert Actions(text, 'cra').found == []


def test_commands_register_in_one_module():
    text = 'import typer\napp = typer.Typer()\nmore = typer.Typer()\napp.add_typer(more)\n@app.command()\ndef demo(): pass\n'  # noqa: E501
    assert Actions(text, 'apps.cli').found == []
    assert Actions(text, 'apps.demo').found != []


def test_the_reader_knows_wings_and_levels():
    known = ['core', 'show.plots', 'data.dicom', 'data.study', 'phantom.chest', 'apps.cli']
    text = """
from .study import Study
from ..core import (
    UARError,
)
from .. import __version__
from uar_nb.show import plots
from . import dicom
import uar_nb.phantom.chest as chest, json
def late():
    from uar_nb.apps.cli import main
from torch import nn
"""
    reader = Reader(text, 'data.load', known)
    assert reader.modules == {
        'data.study',
        'core',
        'show.plots',
        'data.dicom',
        'phantom.chest',
        'apps.cli',
    }
    assert (
        reader.libraries == {'json', 'torch'} and not reader.private | reader.face | reader.computed
    )
