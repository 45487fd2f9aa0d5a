"""The lowest versions that settings.ini allows, as a constraints file for pip.

    python tools/bounds.py                 of the package and its extras for users
    python tools/bounds.py metrics dicom   of the package and these extras

A bound is a promise: tests/project/test_bounds.py installs what this prints, and the newest
versions, and writes a report with each.
"""

import configparser
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENT = re.compile(r'([A-Za-z0-9._-]+)>=([0-9.]+)')
EXTRAS = ('metrics', 'dicom', 'xlsx', 'dalle', 'lab')  # those of users


def requirements(extras=EXTRAS, root=ROOT):
    "The requirements of the package and of some extras, as settings.ini has them."
    settings = configparser.ConfigParser(delimiters=['='], interpolation=None)
    settings.read(root / 'settings.ini', encoding='utf-8')
    default = settings['DEFAULT']
    names = ['requirements', *(f'{extra}_requirements' for extra in extras)]
    return [one for name in names for one in default[name].split()]


def lowest(extras=EXTRAS, root=ROOT):
    "Package → the lowest version that all its requirements allow."
    found = {}
    for one in requirements(extras, root):
        bound = REQUIREMENT.fullmatch(one)
        if not bound:
            raise SystemExit(f'settings.ini: {one} has no lower bound; write name>=version')
        name, version = bound.groups()
        found[name] = max(found.get(name, version), version, key=as_numbers)
    return found


def as_numbers(version):
    "A version as numbers, which compare as versions do: 2.10 comes after 2.9."
    return [int(part) for part in version.split('.')]


if __name__ == '__main__':
    for package, version in lowest(tuple(sys.argv[1:]) or EXTRAS).items():
        print(f'{package}=={version}')
