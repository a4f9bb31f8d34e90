// Schedulers, queues, targets, actors: tables that the server fills, asked for again every two seconds.

import { ask, byId, el } from './dom.js';

const PERIOD = 2000;
const section = byId('processes');
let timer = 0;
let visible = false;

export const keys = {};

export function enter(_, __, first) {
  visible = true;
  if (first) {
    section.replaceChildren(el('p', { class: 'notice' }, 'looking…'));
    section.focus({ preventScroll: true });
    look();
  }
}

export function leave() {
  visible = false;
  clearTimeout(timer);
}

async function look() {
  if (!document.hidden) {
    let found;
    try {
      found = await ask('system');
    } catch (problem) {
      found = { tables: [], problem: problem.message };
    }
    if (!visible) return;
    show(found);
  }
  timer = setTimeout(look, PERIOD);
}

function show({ tables, problem }) {
  const scrolled = [...section.querySelectorAll('.scrolled')].map((one) => one.scrollLeft);
  const focused = [...section.querySelectorAll('.scrolled')].indexOf(document.activeElement);
  section.replaceChildren(problem ? el('p', { class: 'notice' }, problem) : '', ...tables.map(table));
  section.querySelectorAll('.scrolled').forEach((one, index) => {
    one.scrollLeft = scrolled[index] ?? 0;
    if (index === focused) one.focus({ preventScroll: true });
  });
}

function table({ title, note, columns, numbers, rows, empty }) {
  const side = (index) => (numbers.includes(index) ? 'number' : null);
  return el('article', {},
    el('h2', {}, title, note ? el('span', { class: 'quiet' }, note) : null),
    rows.length
      ? el('div', { class: 'scrolled', tabindex: 0, role: 'group', 'aria-label': title },
        el('table', {},
          el('thead', {}, el('tr', {}, columns.map((name, index) => el('th', { scope: 'col', class: side(index) }, name)))),
          el('tbody', {}, rows.map((row) => el('tr', {}, row.map((cell, index) =>
            el('td', { class: [side(index), cell.mood].filter(Boolean).join(' ') || null }, cell.text)))))))
      : el('p', { class: 'quiet' }, empty));
}
