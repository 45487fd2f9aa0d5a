
// ---- tokens of a crop

function tokensOf(study) {
  const bytes = bytesOf(study.tokens);
  const tokens = new Uint16Array(bytes.length / 2);
  tokens.forEach((_, i) => { tokens[i] = bytes[2 * i] + 256 * bytes[2 * i + 1]; });
  return tokens;
}

const SHADES = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

// The colour of a share: dark violet for none, over green to yellow for all
function shade(share) {
  const at = Math.min(share, 0.9999) * (SHADES.length - 1);
  const low = SHADES[Math.floor(at)];
  const high = SHADES[Math.floor(at) + 1];
  const mixed = low.map((value, i) => Math.round(value + (at % 1) * (high[i] - value)));
  return `rgb(${mixed.join(' ')})`;
}

async function cropExplorer({ studies }, box) {
  const state = { study: 0, top: 1, left: 0 };
  const xrays = await Promise.all(studies.map(({ xray }) => loadImage(xray)));
  const sheets = await Promise.all(studies.map(({ sheet }) => loadImage(sheet)));
  const tokens = studies.map(tokensOf);
  const { places, size, grid } = studies[0];
  const many = grid * grid;
  const most = places - 1;
  const [whole, crop, painted] = ['X-ray with the frame of the crop', 'the crop; tokens that changed are outlined', 'what the tokens paint']
    .map((label, i) => newCanvas(label, i ? size : SIDE));
  whole.setAttribute('tabindex', '0');
  whole.classList.add('drag');
  const map = make('canvas', { width: places * 16, height: places * 16, class: 'map', role: 'img', 'aria-label': 'share of changed tokens at each place of the frame' });
  const count = make('p', { class: 'big', 'aria-live': 'polite' });
  const rows = slider('rows down', 'top');
  const columns = slider('columns to the right', 'left');
  const mapCaption = make('figcaption');

  function slider(label, name) {
    const input = make('input', { type: 'range', min: 0, max: most, value: 0, 'aria-label': label });
    const value = make('b');
    input.addEventListener('input', () => move({ [name]: Number(input.value) }));
    return { input, value, box: make('label', { class: 'choice' }, [make('span', { class: 'scale', style: 'margin:0' }, [`${label}: `, value]), input]) };
  }

  function at(top, left) {
    const first = (top * places + left) * many;
    return tokens[state.study].subarray(first, first + many);
  }

  function changed(top, left) {
    const first = at(0, 0);
    return [...at(top, left)].map((token, i) => token !== first[i]);
  }

  function drawFrame() {
    const pen = drawXray(whole, xrays[state.study]);
    const [left, top, side] = [state.left * SCALE, state.top * SCALE, size * SCALE];
    const frame = new Path2D();
    frame.rect(0, 0, whole.width, whole.height);
    frame.rect(left, top, side, side);
    pen.fillStyle = '#000a';
    pen.fill(frame, 'evenodd');
    pen.strokeStyle = '#ffd700';
    pen.lineWidth = 4;
    pen.strokeRect(left, top, side, side);
  }

  function drawCrop(differ) {
    const pen = crop.getContext('2d');
    pen.imageSmoothingQuality = 'high';
    pen.drawImage(xrays[state.study], state.left, state.top, size, size, 0, 0, crop.width, crop.height);
    const side = crop.width / grid;
    pen.strokeStyle = '#ffd700';
    pen.lineWidth = 2;
    differ.forEach((is, i) => {
      if (is) pen.strokeRect((i % grid) * side + 2, Math.floor(i / grid) * side + 2, side - 4, side - 4);
    });
  }

  function drawPainted() {
    const pen = painted.getContext('2d');
    pen.imageSmoothingQuality = 'high';
    pen.drawImage(sheets[state.study], state.left * size, state.top * size, size, size, 0, 0, painted.width, painted.height);
  }

  function drawMap() {
    const pen = map.getContext('2d');
    const side = map.width / places;
    for (let top = 0; top < places; top += 1) {
      for (let left = 0; left < places; left += 1) {
        const share = changed(top, left).filter(Boolean).length / many;
        pen.fillStyle = shade(share);
        pen.fillRect(left * side, top * side, side, side);
      }
    }
    pen.strokeStyle = '#fff';
    pen.lineWidth = 3;
    pen.strokeRect(state.left * side + 1.5, state.top * side + 1.5, side - 3, side - 3);
  }

  function show() {
    const differ = changed(state.top, state.left);
    const number = differ.filter(Boolean).length;
    drawFrame();
    drawCrop(differ);
    drawPainted();
    drawMap();
    count.replaceChildren(make('b', { text: `${number} of ${many}` }), ` tokens changed (${percent(number / many)}). The frame stands ${counted(state.top, 'row', 'rows')} down and ${counted(state.left, 'column', 'columns')} to the right.`);
    for (const [part, name] of [[rows, 'top'], [columns, 'left']]) {
      part.input.value = state[name];
      part.value.textContent = state[name];
    }
  }

  function move(change) {
    Object.assign(state, change);
    state.top = Math.min(most, Math.max(0, state.top));
    state.left = Math.min(most, Math.max(0, state.left));
    show();
  }

  function dragWith() {
    let from = null;
    const perPixel = () => SIDE / whole.getBoundingClientRect().width;
    whole.addEventListener('pointerdown', (event) => {
      from = { x: event.clientX, y: event.clientY, top: state.top, left: state.left };
      whole.setPointerCapture(event.pointerId);
    });
    whole.addEventListener('pointermove', (event) => {
      if (!from) return;
      move({
        top: from.top + Math.round((event.clientY - from.y) * perPixel()),
        left: from.left + Math.round((event.clientX - from.x) * perPixel()),
      });
    });
    for (const name of ['pointerup', 'pointercancel']) whole.addEventListener(name, () => { from = null; });
    whole.addEventListener('keydown', (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      move({ top: state.top + step[0], left: state.left + step[1] });
    });
    map.addEventListener('click', (event) => {
      const { width, left, top } = map.getBoundingClientRect();
      move({ top: Math.floor(((event.clientY - top) / width) * places), left: Math.floor(((event.clientX - left) / width) * places) });
    });
  }

  dragWith();
  const labels = studies.map(({ findings }, i) => [findings.join(', ') || 'no finding', i]);
  mapCaption.textContent = 'share of changed tokens at each place: violet none, yellow all; click to go there';
  const figures = [
    [whole, 'drag the frame'],
    [crop, 'the crop: outlined tokens differ from the first crop’s'],
    [painted, 'painted from the 196 tokens, in the contrast that the dVAE learned'],
  ].map(([canvas, text]) => make('figure', {}, [canvas, make('figcaption', { text })]));
  box.replaceChildren(
    choice('an X-ray, by its true findings', labels, 0, (study) => move({ study })),
    count,
    make('div', { class: 'pictures crops', style: '--n:4' }, [...figures, make('figure', {}, [map, mapCaption])]),
    make('div', { class: 'two even' }, [rows.box, columns.box]),
    make('div', { class: 'chips' }, [
      make('button', { type: 'button', text: '↺ the first crop', click: () => move({ top: 0, left: 0 }) }),
      make('button', { type: 'button', text: 'one pixel down', click: () => move({ top: 1, left: 0 }) }),
      make('button', { type: 'button', text: 'one whole token (8 pixels) down', click: () => move({ top: 8, left: 0 }) }),
    ]),
  );
  show();
}

start(cropExplorer);
