"""What runs on GitHub: each workflow is valid, pinned, and allowed no more than it needs; only a
tag on main publishes."""

import importlib.util
import re
import subprocess
import sys

import pytest
import yaml

from pages import ROOT

FILES = sorted((ROOT / '.github/workflows').glob('*.yml'))
NAMES = [path.name for path in FILES]
PINNED = re.compile(r'[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)+')
# Steps of the pages that publish them, and of a release: nobody else may prove who they are
MAY_SIGN = {('docs.yml', 'publish'), ('release.yml', 'publish')}


def read(path):
    "A workflow; YAML takes its key `on` for a truth value."
    workflow = yaml.safe_load(path.read_text(encoding='utf-8'))
    return {'on' if key is True else key: value for key, value in workflow.items()}


def faults(name, text):
    "What is wrong with a workflow."
    workflow = {'on' if key is True else key: value for key, value in yaml.safe_load(text).items()}
    found = []
    for used in re.findall(r'uses: *(.*)', text):
        if not used.startswith('./') and not PINNED.fullmatch(used.strip()):
            found.append(f'{used}: pin it by its commit, with the version behind it')
    if workflow.get('permissions') != {'contents': 'read'}:
        found.append('the workflow as a whole may read and nothing else')
    if 'pull_request_target' in workflow['on']:
        found.append('code of strangers would run with our rights')
    for job, about in workflow['jobs'].items():
        rights = about.get('permissions', {})
        writes = {right for right, kind in rights.items() if kind == 'write'}
        if writes and (name, job) not in MAY_SIGN:
            found.append(f'{job} may write: {", ".join(sorted(writes))}')
        if 'uses' not in about and 'timeout-minutes' not in about:
            found.append(f'{job} has no time limit')
        for step in about.get('steps', []):
            if re.search(r'\$\{\{ *(github\.(event|head_ref|ref)|inputs)', step.get('run', '')):
                found.append(f'{job}: text of others becomes part of a command')
    return found


@pytest.mark.parametrize('path', FILES, ids=NAMES)
def test_a_workflow_has_no_fault(path):
    text = path.read_text(encoding='utf-8')
    assert faults(path.name, text) == []


PLANTED = {
    'actions/checkout@v5: pin it': ('@08c6903cd8c0fde910a37f88322edcfb5dd907a8 # v5.0.0', '@v5'),
    'pin it': ('907a8 # v5.0.0', '907a8'),
    'may read and nothing': ('permissions:\n  contents: read', 'permissions: write-all'),
    'strangers': ('pull_request:', 'pull_request_target:'),
    'may write: contents': ('    timeout-minutes: 90', '    timeout-minutes: 90\n    permissions:\n      contents: write'),  # noqa: E501
    'no time limit': ('    timeout-minutes: 90\n', ''),
    'text of others': ('run: make test', 'run: make test ${{ github.event.pull_request.title }}'),
}  # fmt: skip


@pytest.mark.parametrize('fault', PLANTED)
def test_a_planted_fault_is_named(fault):
    text = (ROOT / '.github/workflows/test.yml').read_text(encoding='utf-8')
    right, wrong = PLANTED[fault]
    assert right in text
    found = faults('test.yml', text.replace(right, wrong, 1))
    assert len(found) == 1 and fault in found[0], found


def test_every_workflow_is_valid():
    "By GitHub's own schema, as check-jsonschema has it inside."
    if not importlib.util.find_spec('check_jsonschema'):
        pytest.skip("check-jsonschema is not installed: pip install -e '.[dev]'")
    check = [sys.executable, '-m', 'check_jsonschema', '--builtin-schema']
    done = subprocess.run(
        [*check, 'vendor.github-workflows', *map(str, FILES)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(FILES) >= 4


def test_a_release_is_a_tag_on_main_that_passes_the_tests():
    release = read(ROOT / '.github/workflows/release.yml')
    assert list(release['on']) == ['push'] and list(release['on']['push']) == ['tags']
    jobs = release['jobs']
    assert jobs['test']['uses'] == './.github/workflows/test.yml'
    assert jobs['build']['needs'] == 'test' and jobs['publish']['needs'] == 'build'
    said = '\n'.join(step.get('run', '') for step in jobs['build']['steps'])
    assert 'git merge-base --is-ancestor "$GITHUB_SHA" origin/main' in said
    assert jobs['publish']['permissions'] == {'id-token': 'write'}
    assert jobs['publish']['environment']['name'] == 'pypi'
    text = (ROOT / '.github/workflows/release.yml').read_text(encoding='utf-8')
    assert 'secrets.' not in text and 'password' not in text.replace('no password is stored', '')
    publishing = [path.name for path in FILES if 'gh-action-pypi-publish' in path.read_text()]
    assert publishing == ['release.yml']


def test_the_versions_of_a_release_are_told_apart(tmp_path):
    "The commands that compare the tag with the files, run here with a right and a wrong tag."
    release = read(ROOT / '.github/workflows/release.yml')
    [told] = [
        step for step in release['jobs']['build']['steps'] if 'version' in step.get('run', '')
    ]
    lines = [line for line in told['run'].splitlines() if not line.startswith('git ')]
    settings = (ROOT / 'settings.ini').read_text(encoding='utf-8')
    version = re.search(r'^version = (.*)$', settings, re.M)[1]
    for tag, status in ((f'v{version}', 0), ('v9.9.9', 1), (version, 1)):
        done = subprocess.run(
            ['bash', '-e', '-c', '\n'.join(lines)],
            cwd=ROOT,
            env={'GITHUB_REF_NAME': tag, 'PATH': '/usr/bin:/bin'},
        )
        assert done.returncode == status


def test_the_weekly_run_takes_the_newest_of_everything():
    weekly = read(ROOT / '.github/workflows/weekly.yml')
    assert {'schedule', 'workflow_dispatch'} == set(weekly['on'])
    said = '\n'.join(step.get('run', '') for step in weekly['jobs']['test-all']['steps'])
    assert 'make test-all CONSTRAINTS=newest.txt' in said and "'^ruff=='" in said
    assert 'cache' not in str(weekly['jobs']['test-all']['steps'][1])
    make = (ROOT / 'Makefile').read_text(encoding='utf-8')
    assert make.count('-c $(CONSTRAINTS)') == 2 and '-c constraints.txt' not in make
