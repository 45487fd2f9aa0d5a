'use strict';

// ---- the states of the page

async function readStates() {
  const packed = Uint8Array.from(atob(document.getElementById('states').textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate'));
  return JSON.parse(await new Response(stream).text());
}

function bytesOf(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

function loadImage(address) {
  return new Promise((done, fail) => {
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = () => fail(new Error('an image of this page is damaged'));
    image.src = address;
  });
}

// ---- elements

function make(tag, options = {}, children = []) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === 'text') element.textContent = value;
    else if (name === 'click') element.addEventListener('click', value);
    else if (value !== false && value !== undefined) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children);
  return element;
}

// A row of buttons of which one is pressed. Arrow keys go from one to the next.
function choice(title, options, value, chosen) {
  const buttons = options.map(([label, own, off]) => {
    const button = make('button', { type: 'button', 'aria-pressed': String(own === value), disabled: off, text: label });
    button.addEventListener('click', () => {
      for (const other of buttons) other.setAttribute('aria-pressed', String(other === button));
      chosen(own);
    });
    return button;
  });
  const row = make('div', { class: 'chips' }, buttons);
  moveByArrows(row, buttons);
  return make('fieldset', { class: 'choice' }, [make('legend', { text: title }), row]);
}

function moveByArrows(box, buttons) {
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  box.addEventListener('keydown', (event) => {
    const open = buttons.filter((button) => !button.disabled);
    const at = open.indexOf(document.activeElement);
    if (at < 0 || !(event.key in steps)) return;
    event.preventDefault();
    const next = open[(at + steps[event.key] + open.length) % open.length];
    next.focus();
    next.click();
  });
}

function checkBox(label, value, changed) {
  const box = make('input', { type: 'checkbox', checked: value });
  box.addEventListener('change', () => changed(box.checked));
  return make('label', { class: 'check' }, [box, document.createTextNode(label)]);
}

// Places in `box` the words of a report, one sentence a line; `button` makes one of a word
function writeReport(box, words, button) {
  const buttons = [];
  let sentence = make('p', { class: 'sentence' });
  box.replaceChildren(sentence);
  words.forEach((word, place) => {
    const one = button(word, place);
    const last = buttons.at(-1);
    if (word === '.' && last && last.parentElement === sentence) { // a full stop never stands alone
      const pair = make('span', { class: 'keep' });
      last.replaceWith(pair);
      pair.append(last, one);
    } else sentence.append(one);
    buttons.push(one);
    if (word === '.' && place < words.length - 1) {
      sentence = make('p', { class: 'sentence' });
      box.append(sentence);
    }
  });
  return buttons;
}

function counted(number, one, many) {
  return `${number} ${number === 1 ? one : many}`;
}

function percent(share) {
  if (share > 0 && share < 0.01) return '< 1 %';
  return `${Math.round(100 * share)} %`;
}

// ---- pictures

const SIDE = 128; // of an X-ray, in its own pixels
const SCALE = 4; // pixels of a canvas for each

function newCanvas(label, side = SIDE) {
  return make('canvas', { width: side * SCALE, height: side * SCALE, role: 'img', 'aria-label': label });
}

function drawXray(canvas, image) {
  const pen = canvas.getContext('2d');
  pen.imageSmoothingEnabled = true;
  pen.imageSmoothingQuality = 'high';
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  return pen;
}

function drawBoxes(pen, findings, view) {
  pen.strokeStyle = '#00e5ff';
  pen.lineWidth = 3;
  for (const finding of findings) {
    for (const [left, top, right, bottom] of finding.boxes[view] || []) {
      pen.strokeRect(left * SCALE, top * SCALE, (right - left) * SCALE, (bottom - top) * SCALE);
    }
  }
}

function start(explorer) {
  const box = document.getElementById('explorer');
  readStates()
    .then((states) => explorer(states, box))
    .then(() => { document.body.dataset.ready = 'yes'; })
    .catch((error) => {
      box.replaceChildren(make('p', { class: 'warn', text: `This page cannot be shown: ${error.message}` }));
    });
}
