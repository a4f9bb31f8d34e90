// What came of a replay.

import { el } from './dom.js';

export function replayed({ outcome, problem, headline, expected, got, notes, moves }) {
  if (problem) return el('p', { class: 'bad' }, problem);
  const differs = outcome === 'diverged';
  return el('div', { class: `replayed ${outcome}` },
    el('p', { class: 'headline' }, headline),
    differs ? el('table', { class: 'difference' }, el('tbody', {},
      el('tr', { class: 'expected' }, el('th', { scope: 'row' }, 'recorded'), el('td', {}, expected)),
      el('tr', { class: 'got' }, el('th', { scope: 'row' }, 'now'), el('td', {}, got)))) : null,
    notes.length ? el('ul', {}, notes.map((one) => el('li', {}, one))) : null,
    moves.length ? el('details', {},
      el('summary', {}, 'As recorded', el('span', { class: 'quiet' }, `${moves.length} move${moves.length === 1 ? '' : 's'}${differs ? ', up to the difference' : ''}`)),
      el('ol', { class: 'moves' }, moves.map((one) => el('li', { class: `move-${one.kind}` }, one.text)))) : null);
}
