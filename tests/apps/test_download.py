"""Downloads against a server on this machine that has many vices: it cuts, stalls, lies about
length and version, redirects, serves web pages, and more.

One rule stands above all: whatever the server does, the file is there whole or not at all.
"""

import contextlib
import errno
import gzip
import hashlib
import io
import json
import os
import random
import re
import signal
import socket
import socketserver
import ssl
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from forge import POSIX, Forge
from pages import ROOT
from uar_nb.apps import download
from uar_nb.apps.download import Archive, Limits, Part, fetch, unpack
from uar_nb.core import UARError, sha256_of

DATA = random.Random(7).randbytes(200_000)
FAST = dict(pause=0.0, timeout=0.4)


class Cut(Exception):
    "The server hangs up."


class Asked:
    "One request, and what can be answered to it."

    def __init__(self, server, sock):
        self.server, self.sock = server, sock
        raw = b''
        while b'\r\n\r\n' not in raw:
            more = sock.recv(65536)
            if not more:
                raise Cut
            raw += more
        line, *rows = raw.decode('latin-1').split('\r\n')
        self.path = line.split()[1]
        self.headers = {k.lower(): v for k, v in (r.split(': ', 1) for r in rows if ': ' in r)}
        self.start = (
            int(m[1]) if (m := re.fullmatch(r'bytes=(\d+)-', self.headers.get('range', ''))) else 0
        )
        self.number = len(server.log)
        server.log.append(self)

    def send(self, data):
        self.sock.sendall(data)

    def head(self, status, **headers):
        lines = ''.join(
            f'{k.replace("_", "-")}: {v}\r\n' for k, v in headers.items() if v is not None
        )
        self.send(f'HTTP/1.1 {status} x\r\n{lines}Connection: close\r\n\r\n'.encode())

    def serve(
        self,
        data=DATA,
        tag='"1"',
        upto=None,
        length=None,
        ranges=True,
        total=None,
        obey=True,
        **headers,
    ):
        """A good answer, or one that is good but for the arguments; `upto` bytes of the body are
        sent."""
        fits = not obey or self.headers.get('if-range', tag) == tag
        start = self.start if ranges and fits else 0
        if start >= len(data) > 0:
            return self.head(416, Content_Range=f'bytes */{len(data)}', Content_Length=0)
        body = data[start:]
        place = (
            dict(
                Content_Range=f'bytes {start}-{len(data) - 1}/{len(data) if total is None else total}'  # noqa: E501
            )
            if start
            else {}
        )
        self.head(
            206 if start else 200,
            **{
                'Content_Length': len(body) if length is None else length,
                'ETag': tag,
                **place,
                **headers,
            },
        )
        self.send(body[:upto])

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))


class Server:
    "Answers each request by `vice(asked)`."

    def __init__(self, context=None):
        outer = self
        self.log, self.vice = [], Asked.serve

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                with contextlib.suppress(OSError, Cut):
                    sock = (
                        context.wrap_socket(self.request, server_side=True)
                        if context
                        else self.request
                    )
                    outer.vice(Asked(outer, sock))
                    sock.shutdown(socket.SHUT_WR) if not context else sock.unwrap()

        socketserver.ThreadingTCPServer.daemon_threads = True
        self.server = socketserver.ThreadingTCPServer(('127.0.0.1', 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f'{"https" if context else "http"}://127.0.0.1:{self.port}/x'
        threading.Thread(
            target=self.server.serve_forever, kwargs=dict(poll_interval=0.02), daemon=True
        ).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    @property
    def ranges(self):
        return [a.start for a in self.log]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv('NO_PROXY', '127.0.0.1,localhost')
    s = Server()
    yield s
    s.close()


@pytest.fixture
def file(tmp_path):
    return tmp_path / 'down' / 'x.bin'


def left(file):
    return sorted(p.name for p in file.parent.glob('*')) if file.parent.exists() else []


def refused(part, server, file, field=None, **how):
    "The call fails with one error, and there is no file."
    with pytest.raises(UARError, match=part) as e:
        fetch(server.url, file, **{**FAST, **how})
    assert e.value.remedy and e.value.file and not file.exists()
    if field:
        assert e.value.field == field
    return e.value


# cuts


@pytest.mark.parametrize('seed', range(12))
def test_random_cuts(seed, server, file):
    "Cut at random bytes, politely or not: the file is whole, and nothing is sent twice."
    draw, sent = random.Random(seed), []

    def vice(a):
        upto = draw.randrange(5000, 60_000)
        sent.append(min(upto, len(DATA) - a.start))
        a.serve(upto=upto)
        if seed % 2:
            a.reset()

    server.vice = vice
    fetch(server.url, file, **FAST)
    assert file.read_bytes() == DATA and left(file) == ['x.bin']
    assert len(server.log) > 3 and all(a.headers['if-range'] == '"1"' for a in server.log[1:])
    if not seed % 2:
        assert sum(sent) == len(DATA) and server.ranges == [sum(sent[:i]) for i in range(len(sent))]


def test_cut_in_the_head_and_no_answer_at_all(server, file):
    "The first tries end before a body begins."

    def vice(a):
        if a.number == 0:
            return a.reset()
        if a.number == 1:
            return a.send(b'HTTP/1.1 200 OK\r\nContent-Le')
        if a.number == 2:
            return a.send(b'\x16\x03 what?\r\n\r\n')
        a.serve()

    server.vice = vice
    assert fetch(server.url, file, **FAST).read_bytes() == DATA


def test_a_crawling_server_does_not_keep_us(server, file):
    "One byte an answer: progress, but not enough to go on for ever; what came is kept."
    server.vice = lambda a: a.serve(upto=1)
    e = refused('broke off after 5 bytes', server, file, tries=5)
    assert (
        len(server.log) == 5
        and 'goes on from 5 bytes' in e.remedy
        and left(file) == ['x.bin.part', 'x.bin.part.json']
    )


def test_no_server(file):
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    with pytest.raises(UARError, match='no answer'):
        fetch(f'http://127.0.0.1:{port}/x', file, tries=2, **FAST)


def test_a_killed_process_is_gone_on_from(server, file):
    "SIGKILL in the middle; the next process asks for the rest only."
    hold = threading.Event()

    def vice(a):
        a.serve(upto=100_000)
        if a.number == 0:
            hold.wait(20)

    server.vice = vice
    code = (
        f'from uar_nb.apps.download import fetch; fetch({server.url!r}, {str(file)!r}, timeout=20)'
    )
    process = subprocess.Popen([sys.executable, '-c', code], cwd=ROOT)
    part = file.with_name('x.bin.part')
    begin = time.time()
    while not (part.exists() and part.stat().st_size == 100_000) and time.time() < begin + 60:
        time.sleep(0.02)
    process.kill()
    process.wait()
    hold.set()
    assert left(file) == ['x.bin.part', 'x.bin.part.json']
    assert fetch(server.url, file, **FAST).read_bytes() == DATA
    assert server.ranges == [0, 100_000]


def test_killed_between_the_last_byte_and_the_name(server, file):
    "All is here but the name: no server is asked."
    file.parent.mkdir()
    file.with_name('x.bin.part').write_bytes(DATA)
    file.with_name('x.bin.part.json').write_text(
        json.dumps(dict(url=server.url, version='"1"', size=len(DATA)))
    )
    assert fetch(server.url, file, **FAST).read_bytes() == DATA and server.log == []


def test_ctrl_c_says_how_to_go_on(server, file, monkeypatch):
    append = download.Part.append

    def stop(self, block):
        append(self, block)
        if self.have > 90_000:
            raise KeyboardInterrupt

    monkeypatch.setattr(download.Part, 'append', stop)
    with pytest.raises(KeyboardInterrupt, match='goes on from there'):
        fetch(server.url, file, **FAST)
    monkeypatch.undo()
    assert fetch(server.url, file, **FAST).read_bytes() == DATA and server.ranges[1] > 90_000


# stalls


@pytest.mark.parametrize('how', ['silent', 'half', 'head'])
def test_stalls(how, server, file):
    "A server that says nothing, stops half way, or never ends its head."

    def vice(a):
        if how == 'half':
            a.serve(upto=70_000)
        elif how == 'head':
            a.send(b'HTTP/1.1 200 OK\r\n')
        time.sleep(2.5)

    server.vice = vice
    begin = time.time()
    refused('broke off|no answer', server, file, tries=1)
    assert time.time() - begin < 2
    server.vice = Asked.serve
    if how == 'half':
        assert fetch(server.url, file, **FAST).read_bytes() == DATA and server.ranges[-1] == 70_000


# length


def test_promised_more_than_comes(server, file):
    "Content-Length is too long: the rest is asked for, and does not exist."
    server.vice = lambda a: a.serve(length=len(DATA) + 1000 - a.start)
    refused('broke off|has changed', server, file, tries=3)
    assert file.with_name('x.bin.part').stat().st_size <= len(DATA)


@pytest.mark.parametrize('short', [1, 60_000, 199_999])
def test_promised_less_than_there_is(short, server, file):
    "Content-Length is too short: only the hash, or the archive's own checksum, can tell."
    server.vice = lambda a: a.serve(length=len(DATA) - short)
    refused('has SHA-256', server, file, 'sha256', sha256=sha256_of(DATA))
    assert left(file) == []
    with pytest.raises(UARError, match=f'not {len(DATA):,}'):
        fetch(server.url, file, size=len(DATA), **FAST)


@pytest.mark.parametrize('length', ['', 'many', '-5', '1e3'])
def test_a_length_that_is_none(length, server, file):
    """Not a number: as if there were none; then a cut could not be told, and it is refused
    unless a hash decides."""
    server.vice = lambda a: a.serve(length=length)
    refused('does not say how long|broke off', server, file, tries=1)
    assert fetch(server.url, file, sha256=sha256_of(DATA), **FAST).read_bytes() == DATA


def test_until_the_connection_closes(server, file):
    "HTTP of 1996: no length, the end is the end."

    def vice(a):
        a.head(200, ETag='"1"')
        a.send(DATA[a.start :] if not a.start else b'')

    server.vice = vice
    refused('does not say how long', server, file, 'size')
    assert fetch(server.url, file, sha256=sha256_of(DATA).upper(), **FAST).read_bytes() == DATA


def chunked(a, data, cut=None, status=200, **headers):
    a.head(status, Transfer_Encoding='chunked', ETag='"1"', **headers)
    for i in range(0, len(data), 30_000):
        piece = data[i : i + 30_000]
        if cut is not None and i >= cut:
            return a.send(b'7530\r\n' + piece[:100])
        a.send(f'{len(piece):x}\r\n'.encode() + piece + b'\r\n')
    a.send(b'0\r\n\r\n')


def test_chunks(server, file):
    "Without a length, but with an end; cut in a chunk, it is gone on from."

    def vice(a):
        if a.number == 0:
            return chunked(a, DATA, cut=90_000)
        a.serve()

    server.vice = vice
    assert fetch(server.url, file, **FAST).read_bytes() == DATA
    assert 90_000 <= server.ranges[1] <= 90_100


def test_endless(server, file):
    "More than the limit, with and without a promise."
    server.vice = lambda a: chunked(a, DATA * 50)
    refused('more than 1.0 MB came', server, file, 'limit', limit=10**6)
    server.vice = lambda a: a.serve(length=10**15)
    refused('wants to send', server, file, 'limit')


def test_known_size(server, file):
    refused('not 7', server, file, 'size', size=7)
    assert len(server.log) == 1 and fetch(server.url, file, size=len(DATA), **FAST)


def test_empty(server, file):
    server.vice = lambda a: a.serve(b'')
    assert fetch(server.url, file, **FAST).read_bytes() == b''


def test_bytes_are_kept_as_sent(server, file):
    "A server that calls a .tgz `Content-Encoding: gzip` gets it stored, not unpacked."
    packed = gzip.compress(DATA)
    server.vice = lambda a: a.serve(packed, Content_Encoding='gzip')
    assert fetch(server.url, file, **FAST).read_bytes() == packed
    assert server.log[0].headers['accept-encoding'] == 'identity'


# versions

OTHER = random.Random(8).randbytes(len(DATA))


@pytest.mark.parametrize(
    'how', ['honest', 'ignores If-Range', 'no tag later', 'longer', 'wrong place', 'no place']
)
def test_the_file_changes_between_two_requests(how, server, file):
    "Never a mixture of two versions."
    longer = OTHER + b'more'

    def vice(a):
        if a.number == 0:
            return a.serve(upto=80_000)
        if how == 'honest':
            a.serve(OTHER, '"2"')
        elif how == 'ignores If-Range':
            a.serve(OTHER, '"2"', obey=False)
        elif how == 'no tag later':
            a.serve(DATA, None, obey=False)
        elif how == 'longer':
            a.serve(longer, None, obey=False)
        elif how == 'wrong place' and a.number == 1:
            a.head(206, Content_Length=10, Content_Range=f'bytes 5-14/{len(DATA)}', ETag='"1"')
            a.send(b'0123456789')
        elif how == 'no place' and a.number == 1:
            a.head(206, Content_Length=10, ETag='"1"')
            a.send(b'0123456789')
        else:
            a.serve()

    server.vice = vice
    got = fetch(server.url, file, **FAST).read_bytes()
    assert got == {'honest': OTHER, 'ignores If-Range': OTHER, 'longer': longer}.get(how, DATA)


def test_a_version_each_time(server, file):
    "Another tag with each answer, and cut: there is no progress, so there is an end."
    server.vice = lambda a: a.serve(
        random.Random(a.number).randbytes(len(DATA)), f'"{a.number}"', upto=90_000
    )
    refused('broke off', server, file, tries=4)
    assert len(server.log) == 4


@pytest.mark.parametrize('tag', [None, 'W/"1"'])
def test_without_a_version(tag, server, file):
    "Nothing names the version: begun anew by the next call, unless a hash will judge."
    server.vice = lambda a: a.serve(tag=tag, upto=150_000 if a.number == 0 else None)
    refused('broke off', server, file, tries=1)
    assert fetch(server.url, file, **FAST).read_bytes() == DATA and server.ranges == [
        0,
        0,
    ]  # another call: nothing vouches for the part
    file.unlink()
    server.log.clear()
    refused('broke off', server, file, tries=1, sha256=sha256_of(DATA))
    assert fetch(
        server.url, file, sha256=sha256_of(DATA), **FAST
    ).read_bytes() == DATA and server.ranges == [0, 150_000]


def test_date_of_change(server, file):
    "Where there is no tag, the date of the last change names the version."
    day = 'Mon, 02 Mar 2020 10:00:00 GMT'
    server.vice = lambda a: a.serve(
        tag=None,
        upto=90_000 if a.number == 0 else None,
        Last_Modified=day,
        obey=False,
    )
    assert fetch(server.url, file, **FAST).read_bytes() == DATA
    assert server.log[1].headers['if-range'] == day


def test_a_deaf_server(server, file):
    "Ignores Range: begun anew each time, whole in the end."
    server.vice = lambda a: a.serve(ranges=False, upto=[90_000, 20_000, None][min(a.number, 2)])
    assert fetch(server.url, file, **FAST).read_bytes() == DATA


@pytest.mark.parametrize(
    'note',
    [
        '',
        '{',
        '[]',
        '{"url": 5}',
        '{"url": "U", "version": ["x"], "size": 5}',
        '{"url": "U", "version": "\\"1\\"", "size": "big"}',
        '{"url": "U", "version": null, "size": null}',
        '{"url": "U", "version": "\\"1\\"", "size": 3}',
    ],
)
def test_a_damaged_note(note, server, file):
    file.parent.mkdir()
    file.with_name('x.bin.part').write_bytes(b'garbage')
    file.with_name('x.bin.part.json').write_text(note.replace('U', server.url))
    assert fetch(server.url, file, **FAST).read_bytes() == DATA and server.ranges == [0]


# redirects


def led(to):
    return lambda a: a.head(302, Location=to(a) if callable(to) else to, Content_Length=0)


def test_redirects_at_home(server, file):
    "Relative and absolute, up to five; what is asked for goes along."
    hops = iter(['/2', server.url.replace('/x', '/y'), '3', '/4', '/5'])

    def vice(a):
        led(next(hops))(a) if a.number in (0, 1, 2, 3, 4) else a.serve(
            upto=80_000 if a.number == 5 else None
        )

    server.vice = vice
    assert fetch(server.url, file, **FAST).read_bytes() == DATA
    assert server.ranges[-1] == 80_000


@pytest.mark.parametrize(
    'to, part',
    [
        (lambda a: a.server.url, 'circle'),
        (lambda a: f'/{a.number}', 'too often'),
        ('', 'answers 302'),
        ('file:///etc/passwd', 'no answer'),
        ('ftp://127.0.0.1/x', 'no answer'),
        ('http://[::1', 'no answer'),
    ],
)
def test_redirects_that_are_refused(to, part, server, file):
    server.vice = led(to)
    refused(part, server, file, tries=1)
    assert len(server.log) <= 7 and left(file) in ([], ['x.bin.part'])


@pytest.fixture(scope='module')
def certificate(tmp_path_factory):
    "A certificate for 127.0.0.1 that nobody but this test trusts."
    home = tmp_path_factory.mktemp('tls')
    try:
        subprocess.run(
            [
                'openssl',
                'req',
                '-x509',
                '-newkey',
                'rsa:2048',
                '-nodes',
                '-days',
                '2',
                '-subj',
                '/CN=127.0.0.1',
                '-addext',
                'subjectAltName=IP:127.0.0.1',
                '-keyout',
                home / 'key.pem',
                '-out',
                home / 'cert.pem',
            ],
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip('needs openssl')
    return home


def test_https(certificate, file, monkeypatch):
    "A certificate that is not trusted is told at once; from https there is no way to http."
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / 'cert.pem', certificate / 'key.pem')
    server, other = Server(context), Server()
    try:
        refused('certificate is not accepted', server, file)
        assert server.log == []
        monkeypatch.setenv('REQUESTS_CA_BUNDLE', str(certificate / 'cert.pem'))
        server.vice = lambda a: a.serve(upto=90_000 if a.number == 0 else None)
        assert fetch(server.url, file, **FAST).read_bytes() == DATA
        file.unlink()
        server.vice = led(other.url)
        refused('http instead of https', server, file)
    finally:
        server.close()
        other.close()


# refusals


@pytest.mark.parametrize('status', [400, 401, 403, 404, 410, 418, 451])
def test_told_at_once(status, server, file):
    server.vice = lambda a: a.head(status, Content_Length=0)
    refused(f'answers {status}', server, file)
    assert len(server.log) == 1


@pytest.mark.parametrize('status', [408, 425, 429, 500, 502, 503, 504])
def test_tried_again(status, server, file):
    server.vice = lambda a: a.head(status, Content_Length=0) if a.number < 3 else a.serve()
    assert fetch(server.url, file, **FAST).read_bytes() == DATA and len(server.log) == 4
    file.unlink()
    server.log.clear()
    server.vice = lambda a: a.head(status, Content_Length=0)
    refused(f'answers {status}', server, file, tries=3)
    assert len(server.log) == 3


@pytest.mark.parametrize(
    'answer',
    [
        b'',
        b'HTTP/1.1 200',
        b'hello',
        b'HTTP/1.1 99999 x\r\n\r\n',
        b'HTTP/1.1 abc\r\n\r\n',
        b'HTTP/1.1 200 OK\r\n' + b'a: b\r\n' * 200 + b'\r\n',
        b'HTTP/1.1 200 OK\r\nx: ' + b'y' * 70_000 + b'\r\n\r\n',
        b'\0' * 500,
    ],
)
def test_garbage_instead_of_an_answer(answer, server, file):
    server.vice = lambda a: a.send(answer)
    refused('.', server, file, tries=2)


@pytest.mark.parametrize('page', [b'<!DOCTYPE html><p>Log in to the hotel', b'\n\n <html>', b''])
def test_a_page_instead_of_an_archive(page, server, file):
    "Noticed by its type; what is here already is not lost to it."
    server.vice = lambda a: (
        a.serve(DATA, upto=90_000)
        if a.number == 0
        else a.serve(page, '"9"', Content_Type='text/html')
    )
    refused('sends a web page', server, file, tries=2)
    assert file.with_name('x.bin.part').stat().st_size == 90_000
    server.vice = Asked.serve
    assert fetch(server.url, file, **FAST).read_bytes() == DATA and server.ranges[-1] == 90_000


# this side


@pytest.mark.skipif(not POSIX, reason='needs a limit of file sizes')
def test_disk_full_while_it_comes(server, file):
    "What the disk has taken stays; with space the same call goes on."
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        e = refused('cannot be written', server, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert 'goes on from here' in e.remedy
    assert file.with_name('x.bin.part').read_bytes() == DATA[:100_000]
    assert fetch(server.url, file, **FAST).read_bytes() == DATA and server.ranges[-1] == 100_000


@pytest.mark.parametrize('call', ['fsync', 'replace'])
def test_the_last_step_fails(call, server, file, monkeypatch):
    broken = getattr(os, call)

    def refuse(*args):
        if call == 'replace' and not str(args[1]).endswith('x.bin'):
            return broken(*args)
        if call == 'fsync' and os.readlink(f'/proc/self/fd/{args[0]}').endswith('.part') is False:
            return broken(*args)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(download.os, call, refuse)
    refused('cannot be written', server, file)
    monkeypatch.undo()
    n = len(server.log)
    assert (
        fetch(server.url, file, **FAST).read_bytes() == DATA and len(server.log) == n
    )  # nothing is sent again


def test_too_little_room_is_told_before(server, file, monkeypatch):
    monkeypatch.setattr(download.shutil, 'disk_usage', lambda p: type('U', (), dict(free=1000)))
    refused('the disk has 1,000 bytes left', server, file)
    assert file.with_name('x.bin.part').stat().st_size == 0


def test_two_at_once(server, file):
    "The second is told; the first ends well."
    go, results = threading.Event(), []

    def vice(a):
        a.serve(upto=90_000) if a.number == 0 else a.serve()
        go.set() if a.number == 0 else None
        time.sleep(0.5 if a.number == 0 else 0)

    server.vice = vice
    first = threading.Thread(
        target=lambda: results.append(fetch(server.url, file, pause=0.0, timeout=5.0))
    )
    first.start()
    go.wait(5)
    with pytest.raises(UARError, match='by another process'):
        fetch(server.url, file, **FAST)
    first.join()
    assert results and file.read_bytes() == DATA


def test_what_is_there_stays(server, file):
    fetch(server.url, file, **FAST)
    server.log.clear()
    assert (
        fetch(server.url, file, sha256=sha256_of(DATA), size=len(DATA)) == file and server.log == []
    )
    for wrong in (dict(sha256='0' * 64), dict(size=3)):
        with pytest.raises(UARError, match='not') as e:
            fetch(server.url, file, **wrong)
        assert 'delete it' in e.value.remedy and file.read_bytes() == DATA
    with pytest.raises(UARError, match='folder'):
        fetch(server.url, file.parent)
    (file.parent / 'plain').write_text('x')
    with pytest.raises(UARError, match='cannot be written'):
        fetch(server.url, file.parent / 'plain' / 'x')


@pytest.mark.parametrize(
    'url', ['', 'x', 'file:///etc/passwd', 'ftp://127.0.0.1/x', 'http://', 'http:///x', 'data:,x']
)
def test_no_address(url, file):
    with pytest.raises(UARError, match='no http'):
        fetch(url, file)
    assert left(file) == []


@pytest.mark.parametrize('seed', range(40))
def test_whatever_happens(seed, server, file):
    """Vices at random, calls at random: after each call the file is whole or absent, and in the
    end it comes."""
    draw = random.Random(seed)
    vices = [
        lambda a: a.serve(upto=draw.randrange(len(DATA))),
        lambda a: (a.serve(upto=draw.randrange(len(DATA))), a.reset()),
        lambda a: a.head(503, Content_Length=0),
        lambda a: a.head(404, Content_Length=0),
        lambda a: a.serve(ranges=False, upto=draw.randrange(len(DATA))),
        lambda a: a.serve(b'<html>', '"9"'),
        lambda a: a.send(b'junk'),
        lambda a: led('http://127.0.0.1:9/')(a),
        lambda a: a.reset(),
        lambda a: a.serve(length=len(DATA) * 2),
        lambda a: a.serve(OTHER, '"2"', upto=draw.randrange(len(DATA))),
        lambda a: a.serve(OTHER, '"2"', obey=False, upto=draw.randrange(len(DATA))),
        lambda a: chunked(a, DATA, cut=draw.randrange(len(DATA))),
        lambda a: a.serve(total=5),
    ]
    server.vice = lambda a: draw.choice(vices)(a)
    for _ in range(12):
        with contextlib.suppress(UARError):
            fetch(server.url, file, sha256=sha256_of(DATA), tries=draw.randrange(1, 4), **FAST)
        if file.exists():
            assert file.read_bytes() == DATA
        assert set(left(file)) <= {'x.bin', 'x.bin.part', 'x.bin.part.json'}
    server.vice = Asked.serve
    with contextlib.suppress(UARError):
        fetch(
            server.url, file, sha256=sha256_of(DATA), **FAST
        )  # a part of the other version is found out by the hash …
    assert (
        fetch(server.url, file, sha256=sha256_of(DATA), **FAST).read_bytes() == DATA
    )  # … and fetched anew
    assert left(file) == ['x.bin']


# archives


def tgz(*members, mode='w:gz', **how):
    "A .tgz of (name, bytes) or (name, fields of its header)."
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, **how) as tar:
        for name, what in members:
            info = tarfile.TarInfo(name)
            if isinstance(what, bytes):
                info.size = len(what)
            for k, v in ({} if isinstance(what, bytes) else what).items():
                setattr(info, k, v)
            tar.addfile(info, io.BytesIO(what) if isinstance(what, bytes) else None)
    return out.getvalue()


def zipped(*members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as z:
        for name, data, mode in members:
            info = zipfile.ZipInfo('x')
            info.filename = name
            info.external_attr, info.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            z.writestr(info, data)
    return out.getvalue()


LINK = dict(type=tarfile.SYMTYPE)
EVIL = {
    'dots': tgz(('../outside', b'x')),
    'dots inside': tgz(('a/../../outside', b'x')),
    'absolute': tgz(('/tmp/outside', b'x')),
    'backslash': tgz(('..\\outside', b'x')),
    'drive': tgz(('C:outside', b'x')),
    'symbolic link': tgz(('l', dict(LINK, linkname='..')), ('l/outside', b'x')),
    'link inside': tgz(('a', b'x'), ('l', dict(LINK, linkname='a'))),
    'hard link': tgz(('l', dict(type=tarfile.LNKTYPE, linkname='/etc/passwd'))),
    'device': tgz(('d', dict(type=tarfile.BLKTYPE, devmajor=8))),
    'pipe': tgz(('d', dict(type=tarfile.FIFOTYPE))),
    'unknown type': tgz(('d', dict(type=b'Q', size=0, linkname='x'))),
    'long dots': tgz(('a/' * 60 + '../' * 61 + 'outside', b'x')),
    'twice': tgz(('a', b'1'), ('a', b'2')),
    'case': tgz(('a', b'1'), ('A', b'2')),
    'file and folder': tgz(('a', b'1'), ('a/b', b'2')),
    'nul': tgz(('a\nb', b'x')),
    'zip dots': zipped(('../outside', b'x', 0)),
    'zip absolute': zipped(('/tmp/outside', b'x', 0)),
    'zip link': zipped(('l', b'/etc', stat.S_IFLNK | 0o777)),
    'zip device': zipped(('l', b'', stat.S_IFBLK)),
    'zip backslash': zipped(('..\\outside', b'x', 0)),
    'page': b'<!DOCTYPE html>',
    'nothing': b'',
    'noise': random.Random(1).randbytes(5000),
    'gzip of noise': gzip.compress(random.Random(1).randbytes(5000)),
    'gzip of nothing': gzip.compress(b''),
    'half zip': zipped(('a', DATA, 0))[:-30],
    'zip of lies': zipped(('a', DATA, 0)).replace(
        struct.pack('<I', len(DATA)), struct.pack('<I', 50)
    ),
}


@pytest.mark.parametrize('name', EVIL)
def test_evil_archives(name, tmp_path):
    "Refused by an error that names the archive; nothing inside or outside the folder."
    archive = tmp_path / 'home' / 'x.archive'
    archive.parent.mkdir()
    archive.write_bytes(EVIL[name])
    if name == 'gzip of nothing':
        with contextlib.suppress(UARError):
            unpack(archive, tmp_path / 'home' / 'out')
    else:
        with pytest.raises(UARError) as e:
            unpack(archive, tmp_path / 'home' / 'out')
        assert e.value.file == str(archive) and e.value.remedy
        assert sorted(p.name for p in archive.parent.iterdir()) == ['x.archive']
    assert [p.name for p in tmp_path.iterdir()] == ['home'] and not Path('/tmp/outside').exists()


@pytest.mark.parametrize(
    'bomb', ['zeros', 'many zeros', 'members', 'header', 'zip', 'nested header']
)
def test_bombs(bomb, tmp_path):
    "Small on the way, large on the disk: an early end, and little memory."
    big = 60 * 10**6
    data = {
        'zeros': lambda: tgz(('z', bytes(big))),
        'many zeros': lambda: tgz(*((f'{i}', bytes(10**6)) for i in range(60))),
        'members': lambda: tgz(*((f'{i}', b'') for i in range(3000))),
        'zip': lambda: zipped(*((f'{i}', bytes(10**7), 0) for i in range(6))),
        'header': lambda: tgz(('x' * big, b''), format=tarfile.GNU_FORMAT),
        'nested header': lambda: tgz(
            ('x', dict(pax_headers={'comment': 'y' * big})), format=tarfile.PAX_FORMAT
        ),
    }[bomb]()
    (tmp_path / 'b').write_bytes(data)
    tracemalloc.start()
    with pytest.raises(UARError, match='unpacks to|members'):
        unpack(tmp_path / 'b', tmp_path / 'out', Limits(members=2000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 10**6 and not (tmp_path / 'out').exists()


@pytest.mark.parametrize('seed', range(60))
def test_damage_anywhere(seed, tmp_path):
    """A byte changed or the end lost, anywhere: refused, or (where the byte does not matter)
    unpacked to the same."""
    draw = random.Random(seed)
    members = [(f't/{i}', draw.randbytes(draw.randrange(4000))) for i in range(6)]
    good = tgz(*members) if seed % 2 else zipped(*((n, d, 0o644) for n, d in members))
    harmed = bytearray(good)
    if seed % 3:
        harmed[draw.randrange(len(good))] ^= 1 << draw.randrange(8)
    else:
        del harmed[draw.randrange(len(good)) :]
    (tmp_path / 'x').write_bytes(harmed)
    try:
        unpack(tmp_path / 'x', tmp_path / 'out', strip=False)
    except UARError:
        assert not (tmp_path / 'out').exists()
    else:
        assert sorted(
            p.read_bytes() for p in (tmp_path / 'out').rglob('*') if p.is_file()
        ) == sorted(d for _, d in members)


def test_disk_full_while_unpacking(tmp_path, monkeypatch):
    (tmp_path / 'x.tgz').write_bytes(tgz(*((f'{i}.png', DATA) for i in range(3))))

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(download.os, 'fsync', full)
    with pytest.raises(UARError, match='No space left'):
        unpack(tmp_path / 'x.tgz', tmp_path / 'out')
    assert [p.name for p in tmp_path.iterdir()] == ['x.tgz']


def without_filters(monkeypatch):
    "`tarfile` as it was before Python 3.11.4: no filters, and `extract` knows no such argument."
    extract = tarfile.TarFile.extract

    def of_old(self, member, path='', set_attrs=True, *, numeric_owner=False):
        return extract(self, member, path, set_attrs=set_attrs, numeric_owner=numeric_owner)

    monkeypatch.delattr(tarfile, 'data_filter', raising=False)
    monkeypatch.setattr(tarfile.TarFile, 'extract', of_old)


@pytest.mark.parametrize('filters', [True, False], ids=['filters', 'before 3.11.4'])
def test_dangerous_permissions_are_not_taken_over(filters, tmp_path, monkeypatch):
    "No set-uid bit, and nobody but the owner may write."
    if not filters:
        without_filters(monkeypatch)
    (tmp_path / 'x.tgz').write_bytes(tgz(('s', dict(mode=0o4777, uid=0, size=0)), ('t', b'1')))
    unpack(tmp_path / 'x.tgz', tmp_path / 'out')
    assert not (tmp_path / 'out' / 's').stat().st_mode & 0o7022


# the whole


@pytest.fixture
def open_i(server, tmp_path, monkeypatch):
    "A small collection of phantoms in Open-i's layout behind a vicious server."
    from uar_nb.data.load import save_studies
    from uar_nb.phantom.generator import make_studies

    try:
        save_studies(
            make_studies(6, 3, split='train')
            + make_studies(3, 3, split='val')
            + make_studies(3, 3, split='test'),
            tmp_path / 'src',
            'openi',
        )
    except UARError as e:
        pytest.skip(f'no writer of this layout: {e}')
    pngs, xmls = (
        sorted((tmp_path / 'src').rglob('*.png')),
        sorted((tmp_path / 'src').rglob('*.xml')),
    )
    served = {
        'NLMCXR_png.tgz': tgz(*((p.name, p.read_bytes()) for p in pngs)),
        'NLMCXR_reports.tgz': tgz(*((f'ecgen-radiology/{p.name}', p.read_bytes()) for p in xmls)),
    }
    images = Archive('NLMCXR_png.tgz', '.png', len(pngs))
    reports = Archive('NLMCXR_reports.tgz', '.xml', len(xmls))
    monkeypatch.setitem(download.IU_XRAY, 'NLMCXR_png', images)
    monkeypatch.setitem(download.IU_XRAY, 'ecgen-radiology', reports)
    draw = random.Random(0)

    def vice(a):
        data = served.get(a.path.rpartition('/')[2])
        if data is None:
            return a.head(404, Content_Length=0)
        a.serve(
            data,
            f'"{len(data)}"',
            upto=draw.randrange(len(data) // 20, len(data) // 2) if draw.random() < 0.8 else None,
        )

    server.vice = vice
    return served, len(pngs), len(xmls)


def test_iu_xray(open_i, server, tmp_path):
    "From the archives to the audit, through cuts; a second call needs no network."
    served, pngs, xmls = open_i
    got, found = download.download_iu_xray(tmp_path / 'iu', server.url.rsplit('/', 1)[0], **FAST)
    assert {k: (v['files'], v['bytes'], v['sha256']) for k, v in got.items()} == {
        k: ({'NLMCXR_png.tgz': pngs}.get(k, xmls), len(d), hashlib.sha256(d).hexdigest())
        for k, d in served.items()
    }
    assert len(server.log) > 4
    assert (
        found.numbers['splits']['all']['studies'] == 12
        and found.numbers['splits']['all']['images'] == pngs
        and found.numbers['faults']['count'] == 0
    ), found.numbers['faults']
    assert sorted(p.name for p in (tmp_path / 'iu' / 'audit').iterdir()) == [
        'audit.json',
        'index.html',
    ]
    server.log.clear()
    assert (
        download.download_iu_xray(tmp_path / 'iu', server.url.rsplit('/', 1)[0], audited=False)[0]
        == got
        and server.log == []
    )


def test_iu_xray_reports_only(open_i, server, tmp_path):
    got, found = download.download_iu_xray(
        tmp_path / 'iu', server.url.rsplit('/', 1)[0], images=False, **FAST
    )
    assert list(got) == ['NLMCXR_reports.tgz'] and not list((tmp_path / 'iu').rglob('*.png'))
    assert found.numbers['splits']['all']['reports'] == 12


def test_real_reports(server, tmp_path):
    "Open-i's own archive of reports (without the test studies, so its count differs)."
    source = Path(os.environ.get('UAR_DATA', '/nowhere')) / 'iu_xray' / 'NLMCXR_reports.tgz'
    if not source.exists():
        pytest.skip('needs UAR_DATA')
    data = source.read_bytes()
    server.vice = lambda a: a.serve(data, upto=300_000)
    url = server.url.rsplit('/', 1)[0]
    with pytest.raises(UARError, match='files .xml, not 3,955'):
        download.download_iu_xray(tmp_path / 'iu', url, images=False, audited=False, **FAST)
    got, _ = download.download_iu_xray(
        tmp_path / 'iu', url, images=False, counted=False, audited=False, **FAST
    )
    with tarfile.open(source) as tar:
        names = [Path(m.name).name for m in tar if m.isfile()]
    assert got['NLMCXR_reports.tgz']['files'] == len(names) and sorted(
        p.name for p in (tmp_path / 'iu' / 'ecgen-radiology').iterdir()
    ) == sorted(names)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_dalle(server, tmp_path):
    "Both files, converted; a hostile one is refused and does nothing."
    pytest.importorskip('dall_e')
    import dall_e
    import torch

    from uar_nb.tokenizer.dalle import load_dalle

    def saved(thing):
        with io.BytesIO() as out:
            torch.save(thing, out)
            return out.getvalue()

    files = {
        '/encoder.pkl': saved(dall_e.Encoder(n_hid=64, n_blk_per_group=1, vocab_size=512)),
        '/decoder.pkl': saved(
            dall_e.Decoder(n_init=16, n_hid=64, n_blk_per_group=1, vocab_size=512)
        ),
    }
    url = server.url[:-2]
    server.vice = lambda a: a.serve(files[a.path], f'"{a.path}"', upto=len(files[a.path]) // 3)
    dvae = load_dalle(download.download_dalle(tmp_path / 'dalle', url, **FAST))
    assert dvae.codebook_size == 512 and dvae.decoder is not None
    assert sorted(p.name for p in tmp_path.iterdir()) == ['dalle']
    about = json.loads((tmp_path / 'dalle' / 'config.json').read_text())
    assert (
        about['source']['files']['decoder.pkl']['sha256']
        == hashlib.sha256(files['/decoder.pkl']).hexdigest()
    )
    for data in (saved(Hostile(tmp_path / 'attacked')), b'PK not a pickle', b'<html>'):
        files['/decoder.pkl'] = data
        server.vice = lambda a: a.serve(files[a.path], f'"{len(files[a.path])}"')
        with pytest.raises(UARError) as e:
            download.download_dalle(tmp_path / 'bad', url, **FAST)
        assert (
            'decoder.pkl' in str(e.value)
            and not (tmp_path / 'bad').exists()
            and not (tmp_path / 'attacked').exists()
        )
        (tmp_path / 'bad.download' / 'decoder.pkl').unlink(missing_ok=True)


@pytest.mark.skipif(not POSIX, reason='needs fork')
def test_commands(open_i, server, tmp_path):
    """The real command, stopped by Ctrl-C and given again; the counts are not the published
    ones, so they have to be accepted."""
    hold, vice = threading.Event(), server.vice
    with Forge() as forge:

        def first(a):
            a.serve(open_i[0][a.path.rpartition('/')[2]], upto=1000)
            hold.wait(30)

        server.vice = first
        argv = [
            'download',
            'iu-xray',
            'iu',
            '--url',
            server.url.rsplit('/', 1)[0],
            '--any-count',
            '--tries',
            20,
            '--no-audit',
        ]
        pid, *started = forge.start(argv, cwd=tmp_path)
        begin = time.time()
        while not server.log and time.time() < begin + 60:
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(pid, signal.SIGINT)
        done = forge.finish((pid, *started))
        hold.set()
        assert (
            done.status == 130
            and 'the same command goes on' in done.err
            and 'Traceback' not in done.err
        ), done
        server.vice = vice
        done = forge.run(argv, cwd=tmp_path)
        assert done.status == 0, done.err
        assert 'NLMCXR_png.tgz' in done.out and sorted(
            p.name for p in (tmp_path / 'iu').iterdir()
        ) == [
            'NLMCXR_png',
            'NLMCXR_png.tgz',
            'NLMCXR_reports.tgz',
            'SOURCE.json',
            'ecgen-radiology',
        ]


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_said_and_used(number, tmp_path, monkeypatch):
    "What two processes would spoil is found by length, hash or content, as any damage is."
    fcntl = pytest.importorskip('fcntl')

    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, 'flock', flock)
    with pytest.warns(RuntimeWarning, match='knows no locks; fetch with one process at a time'):
        part = Part('https://example.org/x', tmp_path / 'x')
    part.append(b'abc')
    part.finish()
    assert (tmp_path / 'x').read_bytes() == b'abc'
