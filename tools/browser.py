"A page of a real Chromium without a window, steered over its debugging protocol."

import base64
import itertools
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request

CHROMIUM = next(
    filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'chrome'))),
    None,
)


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class Browser:
    "One page; `run` evaluates JavaScript, `wait` until it gives something true."

    def __init__(self, width=1280, height=900):
        import websocket

        self.home, port = tempfile.TemporaryDirectory(ignore_cleanup_errors=True), free_port()
        self.process = subprocess.Popen(
            [
                CHROMIUM,
                '--headless=new',
                '--no-sandbox',
                '--disable-gpu',
                '--disable-dev-shm-usage',
                '--no-first-run',
                '--disable-background-networking',
                f'--window-size={width},{height}',
                '--remote-allow-origins=*',
                f'--remote-debugging-port={port}',
                f'--user-data-dir={self.home.name}',
                'about:blank',
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.numbers, self.events = itertools.count(1), []
        for _ in range(150):
            try:
                pages = [
                    p
                    for p in json.load(
                        urllib.request.urlopen(f'http://127.0.0.1:{port}/json', timeout=5)
                    )
                    if p['type'] == 'page'
                ]
                if pages:
                    break
            except OSError:
                pass
            time.sleep(0.2)
        self.socket = websocket.create_connection(pages[0]['webSocketDebuggerUrl'], timeout=120)
        for domain in ('Page', 'Runtime', 'Network', 'Log'):
            self.send(f'{domain}.enable')

    def send(self, method, **params):
        number = next(self.numbers)
        self.socket.send(json.dumps(dict(id=number, method=method, params=params)))
        while True:
            got = json.loads(self.socket.recv())
            if got.get('id') == number:
                if 'error' in got:
                    raise RuntimeError(f'{method}: {got["error"]}')
                return got['result']
            self.events.append(got)

    def open(self, url):
        self.send('Page.navigate', url=url)

    def run(self, script):
        got = self.send(
            'Runtime.evaluate', expression=script, returnByValue=True, awaitPromise=True
        )
        if 'exceptionDetails' in got:
            raise RuntimeError(str(got['exceptionDetails'])[:500])
        return got['result'].get('value')

    def wait(self, script, seconds=60, what=''):
        end = time.time() + seconds
        while time.time() < end:
            try:
                if value := self.run(script):
                    return value
            except RuntimeError:
                pass
            time.sleep(0.3)
        raise TimeoutError(what or script)

    def screenshot(self, file):
        with open(file, 'wb') as f:
            f.write(base64.b64decode(self.send('Page.captureScreenshot', format='png')['data']))

    def console_errors(self):
        "Errors that the page wrote to its console or failed to load."
        return [
            e['params']
            for e in self.events
            if e.get('method') == 'Runtime.exceptionThrown'
            or e.get('method') == 'Log.entryAdded'
            and e['params']['entry']['level'] == 'error'
        ]

    def requests(self):
        return [
            e['params']['request']['url']
            for e in self.events
            if e.get('method') == 'Network.requestWillBeSent'
        ]

    def close(self):
        try:
            self.socket.close()
        finally:
            self.process.terminate()
            self.process.wait(20)
            self.home.cleanup()
