
// ---- a phantom, and what the model wrote

const PARTS = ['side', 'zone', 'severity'];

async function phantomExplorer({ phantoms, seconds }, box) {
  const state = { kind: 'effusion', side: 'left', zone: '', severity: 'severe', second: 1, boxes: true };
  const canvases = ['frontal', 'lateral'].map((name) => newCanvas(`${name} X-ray of the phantom`));
  const pictures = make('div', { class: 'pictures' }, ['frontal', 'lateral'].map((name, i) => make('figure', {}, [canvases[i], make('figcaption', { text: name })])));
  const written = make('p', { class: 'written', 'aria-live': 'polite' });
  const verdict = make('ul', { class: 'verdict' });
  const controls = make('div');
  const kinds = [...new Set(phantoms.map(({ first }) => (first ? first[0] : 'none')))];

  const known = (kind) => phantoms.filter(({ first }) => (first ? first[0] : 'none') === kind);

  // The values that a part of a kind may have
  function values(kind, number) {
    if (kind === 'none') return [];
    return [...new Set(known(kind).map(({ first }) => first[number + 1]))].filter(Boolean);
  }

  function settle() {
    PARTS.forEach((part, number) => {
      const allowed = values(state.kind, number);
      if (!allowed.includes(state[part])) state[part] = allowed[0] || '';
    });
    if (!found()) state.second = 0;
  }

  function found() {
    const wanted = [state.kind, state.side, state.zone, state.severity].join();
    const second = state.second || null;
    return phantoms.find((one) => (one.first ? one.first.join() : 'none,,,') === wanted && one.second === second);
  }

  function choose(change) {
    Object.assign(state, change);
    settle();
    show();
  }

  function showControls() {
    const focused = [...controls.querySelectorAll('button')].indexOf(document.activeElement);
    const rows = [choice('a finding', kinds.map((kind) => [kind.replaceAll('_', ' '), kind]), state.kind, (kind) => choose({ kind }))];
    PARTS.forEach((part, number) => {
      const allowed = values(state.kind, number);
      if (allowed.length > 1) rows.push(choice(part === 'side' ? 'side of the patient' : part, allowed.map((value) => [value, value]), state[part], (value) => choose({ [part]: value })));
    });
    const others = seconds.map((name, i) => {
      const there = phantoms.some((one) => one.second === (i || null) && (one.first ? one.first.join() : 'none,,,') === [state.kind, state.side, state.zone, state.severity].join());
      return [name || 'none', i, !there];
    });
    rows.push(choice('and a second one', others, state.second, (second) => choose({ second })));
    controls.replaceChildren(...rows);
    if (focused >= 0) {
      const buttons = [...controls.querySelectorAll('button')];
      (buttons[focused] || buttons[0]).focus();
    }
  }

  async function show() {
    const phantom = found();
    showControls();
    written.textContent = phantom.report.split(' .').map((text) => text.trim()).filter(Boolean)
      .map((text) => `${text[0].toUpperCase()}${text.slice(1)}.`).join(' ');
    const lines = phantom.verdict.map(([kind, name, note]) => make('li', { class: kind }, [
      make('b', { text: kind }), make('span', {}, [name, note ? make('small', { text: ` (${note})` }) : '']),
    ]));
    if (!lines.length) lines.push(make('li', { class: 'seen' }, [make('b', { text: 'right' }), 'nothing to see, nothing reported']));
    verdict.replaceChildren(...lines, ...phantom.warnings.map((text) => make('li', { class: 'missed' }, [make('small', { text })])));
    const images = await Promise.all(['frontal', 'lateral'].map((name) => loadImage(phantom.views[name])));
    if (phantom !== found()) return; // something else was chosen in the meantime
    ['frontal', 'lateral'].forEach((name, i) => {
      const pen = drawXray(canvases[i], images[i]);
      if (state.boxes) drawBoxes(pen, phantom.findings, name);
    });
  }

  box.replaceChildren(
    make('div', { class: 'two' }, [
      make('div', { class: 'stay' }, [pictures, make('p', { class: 'scale' }, [checkBox('show where the findings are', true, (on) => { state.boxes = on; show(); })])]),
      make('div', { class: 'tall' }, [controls]),
      make('div', {}, [
        make('div', { class: 'report' }, [make('h2', { text: 'The model writes' }), written]),
        make('h2', { text: 'Read from this report' }), verdict,
      ]),
    ]),
  );
  settle();
  await show();
}

start(phantomExplorer);
