// The waterfall of one request: rows of bars on one axis of time. What they are, and why, the server says.

import { el } from './dom.js';

const LEGEND = [
  ['step', 'step ran'],
  ['run', 'attempt'],
  ['failed', 'attempt that failed'],
  ['retry', 'wait for the next attempt'],
  ['place', 'queued: for a place, a worker or its turn'],
  ['run cut', 'cut short'],
  ['answer', 'sending the answer'],
];
const SEGMENTS = {
  queue: 'waiting for its first step',
  step: 'step',
  place: 'waiting for a place at the target',
  run: 'effect',
  retry: 'waiting to be tried again',
  turn: 'waiting for its turn',
  answer: 'sending the answer',
};

export function waterfall(trace) {
  const whole = Math.max(trace.took_ns, 1);
  return el('div', { class: 'waterfall', role: 'table', 'aria-label': 'Timeline' },
    el('div', { class: 'axis', role: 'row' },
      el('span', { role: 'columnheader', class: 'name' }, 'critical path'),
      el('span', { role: 'columnheader', class: 'track' }, critical(trace, whole)),
      el('span', { role: 'columnheader', class: 'took' }, 'took')),
    el('div', { class: 'ticks', 'aria-hidden': 'true' },
      trace.ticks.map((tick) => at(el('span', { class: tick.at_ns > whole * 0.92 ? 'last' : null }, tick.text), tick.at_ns / whole))),
    trace.rows.map((row) => drawn(row, whole, trace.ticks)),
    el('p', { class: 'legend', 'aria-hidden': 'true' },
      LEGEND.map(([kind, text]) => el('span', {}, el('i', { class: `bar ${kind}` }), text)),
      el('span', {}, el('i', { class: 'mark' }, '▸'), 'its Need waited for this one')));
}

function drawn(row, whole, ticks) {
  const told = row.bars.map((bar) => bar.tells).join('; ');
  const tags = [
    row.attempts > 1 ? el('em', { class: 'tag' }, `${row.attempts} attempts`) : null,
    row.kind === 'effect' && !row.required ? el('em', { class: 'tag quiet' }, 'optional') : null,
    row.fate ? el('em', { class: `tag ${row.end}` }, row.fate) : null,
  ];
  const name = row.kind === 'queue' ? 'queued' : row.kind === 'need' ? row.about : row.label;
  const label = row.kind === 'need' ? el('span', { class: 'about' }, `join ${row.about}`) : el('span', { class: 'label' }, name);
  return el('div', { class: `row kind-${row.kind} end-${row.end}${row.critical ? ' critical' : ''}`, role: 'row' },
    el('span', { class: 'name', role: 'cell', title: row.kind === 'effect' ? `${row.label}\n${row.about}` : name },
      el('span', { class: 'first' }, row.kind === 'effect' ? el('i', { class: 'mark' }, row.critical ? '▸' : '') : null, label, tags),
      row.kind === 'effect' && row.about !== row.label ? el('span', { class: 'about' }, row.about) : null),
    el('span', { class: 'track', role: 'cell', 'aria-label': told || row.fate },
      ticks.map((tick) => at(el('s', {}), tick.at_ns / whole)),
      row.bars.map((bar) => stretched(el('i', { class: `bar ${bar.kind}`, title: bar.tells }), bar, whole))),
    el('span', { class: 'took', role: 'cell' }, row.took));
}

function critical(trace, whole) {
  return trace.critical.map((one) => {
    const what = `${SEGMENTS[one.kind]}${one.name ? `, ${one.name}` : ''}: ${one.took}, ${one.share} %`;
    return stretched(el('i', { class: `bar ${one.kind}`, title: what, role: 'img', 'aria-label': what }), one, whole);
  });
}

function at(element, share) {
  element.style.left = `${Math.min(share, 1) * 100}%`;
  return element;
}

function stretched(element, { start_ns: start, end_ns: end }, whole) {
  at(element, start / whole);
  element.style.width = `${(Math.max(0, Math.min(end, whole) - Math.min(start, whole)) / whole) * 100}%`;
  return element;
}
