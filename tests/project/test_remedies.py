"""A remedy must work: the commands, options, extras, functions, settings and environment variables
that remedies name exist. They are collected from the source of the package."""

import ast
import configparser
import re
from functools import cache

import pytest
import typer

import uar_nb._modidx
from pages import ROOT
from uar_nb.apps.cli import app
from uar_nb.config import RUN_PRESETS, leaves, model_preset, run_preset
from uar_nb.core import UARError
from uar_nb.data.load import load_studies

SOURCES = sorted(
    path for path in (ROOT / 'uar_nb').rglob('*.py') if path.name not in ('_modidx.py',)
)
OTHER_COMMANDS = ('git lfs pull',)


def texts_of(node):
    "The texts that an expression may give; `{}` stands for what only a run knows."
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else '{}' for part in node.values]
        inner = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
        return [''.join(parts), *(text for part in inner for text in texts_of(part))]
    if isinstance(node, ast.BinOp):
        sides = texts_of(node.left) or ['{}'], texts_of(node.right) or ['{}']
        return [left + right for left in sides[0] for right in sides[1]]
    if isinstance(node, ast.IfExp):
        return texts_of(node.body) + texts_of(node.orelse)
    if isinstance(node, ast.BoolOp):
        return [text for value in node.values for text in texts_of(value)]
    return []


def remedy_nodes(node):
    "Expressions of remedies in a call or an assignment."
    if isinstance(node, ast.Call):
        name = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
        yield from (word.value for word in node.keywords if word.arg == 'remedy')
        place = {'add': 2, 'Fault': 3}.get(name)
        if place is not None and len(node.args) > place:
            yield node.args[place]
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name) and 'remedy' in target.id:
                yield node.value
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                for name, value in zip(target.elts, node.value.elts, strict=True):
                    if 'remedy' in getattr(name, 'id', ''):
                        yield value


def remedies_in(source):
    "All remedies of a source text."
    nodes = (found for node in ast.walk(ast.parse(source)) for found in remedy_nodes(node))
    return [text for node in nodes for text in texts_of(node)]


@cache
def remedies():
    "(file, remedy) of the whole package."
    return [
        (path.relative_to(ROOT).as_posix(), text)
        for path in SOURCES
        for text in remedies_in(path.read_text(encoding='utf-8'))
    ]


@cache
def commands():
    "Words of each command of `uar` → its options."
    found = {}

    def walk(words, command):
        names = {name for option in command.params for name in option.opts}
        found[words] = {name for name in names if name.startswith('-')} | {'--help'}
        for name, inner in getattr(command, 'commands', {}).items():
            walk((*words, name), inner)

    walk((), typer.main.get_command(app))
    return found


@cache
def names_of_package():
    "(functions, classes and their methods; parameters and fields) of the package."
    symbols, arguments = set(), set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                symbols.add(node.name)
            if isinstance(node, ast.ClassDef):
                fields = [part.target for part in node.body if isinstance(part, ast.AnnAssign)]
                arguments.update(getattr(field, 'id', '') for field in fields)
            if isinstance(node, ast.arguments):
                every = [*node.posonlyargs, *node.args, *node.kwonlyargs]
                arguments.update(argument.arg for argument in every)
    for module in uar_nb._modidx.d['syms'].values():
        for name in module:
            symbols.update(name.removeprefix('uar_nb.').split('.'))
    return symbols, arguments


@cache
def extras():
    "Names of the extras that can be installed."
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(ROOT / 'settings.ini', encoding='utf-8')
    text = (ROOT / 'setup.py').read_text(encoding='utf-8') + str(dict(settings['DEFAULT']))
    return {
        name for name in re.findall(r"'?(\w+)_requirements|'(\w+)':", text) for name in name if name
    }


@cache
def all_source():
    "The package as one text."
    return ''.join(path.read_text(encoding='utf-8') for path in SOURCES)


@cache
def settings():
    "Dotted names of the fields of a run: of UAR, and of another system."
    runs = [leaves(run_preset('iu_xray', model).to_dict()) for model in ('uar', 'st')]
    return {re.sub(r'\.\d+', '', name) for run in runs for name in run} | {'train.stages'}


def bad_options(remedy):
    every = set().union(*commands().values())
    return {f'option {name}' for name in re.findall(r'--[a-z][\w-]*', remedy) if name not in every}


def is_command(words):
    "Whether `uar …` is a command with these options."
    path = tuple(words[1:3]) if tuple(words[1:3]) in commands() else tuple(words[1:2])
    options = {word for word in words if word.startswith('--')}
    return path in commands() and options <= commands()[path]


def bad_code(remedy):
    "What stands between backticks: a command of ours, a known other one, or names of the package."
    symbols, arguments = names_of_package()
    for text in re.findall(r'`([^`]+)`', remedy):
        words = text.split()
        if words[0] == 'uar':
            if not is_command(words):
                yield f'command {text}'
        elif text not in OTHER_COMMANDS and not set(text.split('.')) <= symbols | arguments:
            yield f'name {text}'


def bad_names(remedy):
    "Methods as Class.method, arguments as name=value."
    symbols, arguments = names_of_package()
    for owner, name in re.findall(r'\b([A-Z]\w+)\.([a-z]\w+)', remedy):
        if owner in symbols and name not in symbols:
            yield f'name {owner}.{name}'
    for name in re.findall(r"(?<![\w.'\"])([a-z_]\w*)=(?=['\w({…])", remedy):
        if name not in arguments:
            yield f'argument {name}='


def bad_settings(remedy):
    symbols, _ = names_of_package()
    for name in re.findall(r'\b(?:model|data|train)\.[a-z_]+\b', remedy):
        is_method = name.split('.')[1] in symbols | {'safetensors', 'state_dict'}
        if name not in settings() and not is_method:
            yield f'setting {name}'


def bad_extras(remedy):
    for name in re.findall(r'uar_nb\[(\w+)\]', remedy):
        if name not in extras():
            yield f'extra {name}'


def bad_variables(remedy):
    for name in re.findall(r'\bUAR_[A-Z]+\b', remedy):
        if not re.search(rf"environ[^\n]*'{name}'", all_source()):
            yield f'variable {name}'


def faults_of(remedy):
    "What of a remedy does not exist."
    checks = (bad_options, bad_code, bad_names, bad_settings, bad_extras, bad_variables)
    return [fault for check in checks for fault in check(remedy)]


def test_the_collector_finds_remedies():
    source = '''
what, remedy = 'x', f'use {a}, or --first'
raise UARError('x', remedy='second' if good else "third")
log.add('field', 'what', f"fourth {', '.join(b)}")
'''
    found = remedies_in(source)
    assert {'use {}, or --first', 'second', 'third', 'fourth {}'} <= set(found)
    assert len(remedies()) > 250 and len({file for file, _ in remedies()}) > 30


@pytest.mark.parametrize(
    'remedy, fault',
    [
        ('give --no-such-option', 'option --no-such-option'),
        ('run `uar fetch`', 'command uar fetch'),
        ('run `uar train x --beams 3`', 'command uar train x --beams 3'),
        ('use `read_every_view`', 'name read_every_view'),
        ('use Vocabulary.make', 'name Vocabulary.make'),
        ("give layout_of='x'", 'argument layout_of='),
        ('set data.rulings', 'setting data.rulings'),
        ("pip install 'uar_nb[metric]'", 'extra metric'),
        ('set UAR_DALEE', 'variable UAR_DALEE'),
    ],
)
def test_a_planted_fault_is_found(remedy, fault):
    assert faults_of(remedy) == [fault]


@pytest.mark.parametrize(
    'remedy',
    [
        'use --any-count, or `uar download iu-xray FOLDER --reports-only`',
        "use Vocabulary.build, `StudyData`, by='pixels', data.rules=corrected, UAR_DALLE",
        "pip install 'uar_nb[metrics]'",
    ],
)
def test_a_good_remedy_is_none(remedy):
    assert faults_of(remedy) == []


def test_what_remedies_name_exists():
    faults = [(file, text, faults_of(text)) for file, text in remedies()]
    assert [row for row in faults if row[2]] == []


def test_extras_that_are_asked_for_exist():
    "The second argument of `optional_import`, wherever it is written out."
    asked = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'optional_import':
                asked.update(text for text in texts_of(node.args[1]))
    assert asked and asked <= extras()


def test_options_that_help_names_exist():
    "Examples in --help, and options that help texts speak of."
    every_option = set().union(*commands().values())

    def walk(command):
        yield command.help or ''
        yield from (getattr(option, 'help', None) or '' for option in command.params)
        for inner in getattr(command, 'commands', {}).values():
            yield from walk(inner)

    for text in walk(typer.main.get_command(app)):
        assert set(re.findall(r'(?<!\S)--[a-z][\w-]*', text)) <= every_option, text


@pytest.mark.parametrize('rules', ['auto', 'iu_xray', 'mimic_cxr', 'corrected'])
def test_rules_that_notes_name_can_be_set(rules):
    assert run_preset('iu_xray').override({'data.rules': rules}).data.rules == rules


def test_presets_that_remedies_list_exist():
    for ask in (run_preset, model_preset):
        with pytest.raises(UARError) as refused:
            ask('no such preset')
        names = refused.value.remedy.removeprefix('known presets: ').split(', ')
        assert names and [ask(name) for name in names]
    assert set(RUN_PRESETS)


@pytest.mark.parametrize(
    'name',
    'r.csv r.tsv r.csv.gz r.jsonl r.json r.xml r.tgz r.tar.gz r.xlsx r.zip r.txt'.split(),
)
def test_a_file_that_a_note_tells_to_name_is_read_when_it_is_named(tmp_path, name):
    "Images alone name the files beside them that may hold reports: naming one must not be refused."
    from PIL import Image

    Image.effect_noise((32, 32), 60).save(tmp_path / 'p.png')
    (tmp_path / name).write_text('id,image,report\na,p.png,Clear.\n', encoding='utf-8')
    notes = load_studies(tmp_path).facts.texts('not read')
    advised = [note for note in notes if name in note and 'name that file' in note]
    if not advised:
        return
    try:
        load_studies(tmp_path / name)
    except UARError as error:  # a fault of this made-up content, never of its kind of file
        assert 'is no data set' not in str(error)
