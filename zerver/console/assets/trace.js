// One kept request: why it took as long as it did, its waterfall, what came in and went out, its pipeline, its replay.

import { ask, byId, el, moment } from './dom.js';
import { graphLegend, pipelineGraph } from './graph.js';
import { address, graphs } from './pipelines.js';
import { replayed } from './replay.js';
import { waterfall } from './waterfall.js';

const section = byId('trace');
let list = null;
let id = '';

/** The list that this view goes back to. */
export const beside = (requests) => { list = requests; };

const to = (one) => `#/requests/${encodeURIComponent(one)}`;

export const keys = {
  Escape: () => { location.hash = list.address(); },
  u: () => { location.hash = list.address(); },
  j: () => beyond(1),
  k: () => beyond(-1),
  r: () => section.querySelector('#replay-button')?.click(),
};

function beyond(step) {
  const next = list.neighbour(id, step);
  if (next) location.hash = to(next);
}

export async function enter(wanted) {
  id = wanted;
  let trace;
  try {
    trace = await ask(`traces/${encodeURIComponent(wanted)}`);
  } catch (problem) {
    if (id !== wanted) return;
    section.replaceChildren(back(), el('p', { class: 'notice' }, `${wanted}: ${problem.message}`));
    section.focus({ preventScroll: true });
    return;
  }
  if (id !== wanted) return;
  list.choose(id);
  section.replaceChildren(...page(trace));
  byId('main').scrollTop = 0;
  section.scrollTop = 0;
  section.focus({ preventScroll: true });
  picture(trace);
}

function back() {
  const beside = (step, text, label) => {
    const one = list.neighbour(id, step);
    return one && el('a', { href: to(one), 'aria-label': label, title: label }, text);
  };
  return el('p', { class: 'back' }, el('a', { href: list.address() }, '← Requests'),
    beside(-1, '↑ newer', 'the one above in the list (k)'), beside(1, '↓ older', 'the one below in the list (j)'));
}

function page(trace) {
  const fact = (name, ...value) => el('div', {}, el('dt', {}, name), el('dd', {}, ...value));
  return [
    back(),
    el('h2', { class: 'title' },
      el('span', { class: `status level-${trace.level}` }, trace.status === null ? 'no answer' : String(trace.status)),
      el('span', { class: 'target' }, el('b', {}, trace.method), ` ${trace.target}`)),
    el('dl', { class: 'facts' },
      fact('took', el('b', {}, trace.took)),
      fact('kept as', trace.why),
      fact('route', trace.route),
      fact('at', moment(trace.started_ms)),
      fact('from', trace.client),
      fact('id', el('code', {}, trace.id)),
      fact('engine', `${trace.engine}, scheduler ${trace.scheduler}`),
      fact('queued', trace.queued),
      trace.parent ? fact('traceparent', el('code', {}, trace.parent)) : null),
    el('article', { class: 'why' },
      el('h3', {}, 'Why'),
      trace.reasons.length
        ? el('ul', {}, trace.reasons.map((one) => el('li', {}, one)))
        : el('p', { class: 'quiet' }, 'Nothing in it took much time, or went wrong.')),
    el('article', {}, el('h3', {}, 'Timeline'), waterfall(trace)),
    el('article', { id: 'pipeline' }),
    el('article', { id: 'replay' },
      el('h3', {}, 'Replay'),
      el('p', { class: 'quiet' }, 'Run the same steps against what was recorded, without network, and see where they differ.'),
      el('button', { type: 'button', id: 'replay-button', title: 'r', onclick: () => replay(trace.id) }, 'Replay'),
      el('div', { id: 'replayed', role: 'status' })),
    message('Request', trace.request, trace.redacted.length ? `redacted: ${trace.redacted.join(', ')}` : ''),
    trace.response ? message('Answer', trace.response, '') : null,
    trace.results.length ? results(trace) : null,
    events(trace),
  ].filter(Boolean);
}

function message(title, { headers, body }, note) {
  return el('details', {},
    el('summary', {}, title, el('span', { class: 'quiet' }, summary(headers, body, note))),
    headers.length ? el('table', { class: 'headers' }, el('tbody', {}, headers.map(([name, value]) =>
      el('tr', {}, el('th', { scope: 'row' }, name), el('td', {}, value))))) : null,
    bodied(body));
}

function summary(headers, body, note) {
  const counted = `${headers.length} header${headers.length === 1 ? '' : 's'}`;
  const size = body.text === null ? body.note : `${body.text.length} characters`;
  return [counted, `body ${size}`, note].filter(Boolean).join('; ');
}

const bodied = (body) => [
  body.text === null ? null : el('pre', { tabindex: 0 }, body.text),
  body.note ? el('p', { class: 'quiet' }, `body: ${body.note}`) : null,
];

function results(trace) {
  return el('details', {},
    el('summary', {}, 'Results of effects', el('span', { class: 'quiet' }, 'as drivers gave them')),
    trace.results.map((one) => el('div', { class: 'result' },
      el('h4', {}, one.label, el('span', { class: 'quiet' }, one.about)),
      one.error ? el('p', { class: 'bad' }, one.error) : bodied(one.body))));
}

function events(trace) {
  const cell = (text, kind = null) => el('td', { class: kind }, text === 0 || text === -1 ? '' : String(text));
  return el('details', {},
    el('summary', {}, 'Events', el('span', { class: 'quiet' }, `${trace.events.length}, as recorded`)),
    el('div', { class: 'scrolled', tabindex: 0, role: 'group', 'aria-label': 'Events' },
      el('table', {},
        el('thead', {}, el('tr', {}, ['at', 'event', 'of', 'need', 'effect', 'detail'].map((name, index) =>
          el('th', { scope: 'col', class: index === 0 ? 'number' : null }, name)))),
        el('tbody', {}, trace.events.map((one) => el('tr', {},
          cell(one.at, 'number'), cell(one.kind), cell(one.name), cell(one.need), el('td', {}, one.effect < 0 ? '' : String(one.effect)),
          cell(one.detail, 'detail')))))));
}

async function picture(trace) {
  const found = await graphs();
  const graph = found.routes.find((one) => one.label === trace.route);
  const place = byId('pipeline');
  if (id !== trace.id || !graph || !place) return;
  place.replaceChildren(
    el('h3', {}, 'Pipeline', el('a', { class: 'more', href: address(graph.label) }, graph.label)),
    graphLegend(),
    pipelineGraph(graph, new Set(trace.ran)));
}

async function replay(wanted) {
  const place = byId('replayed');
  const button = byId('replay-button');
  button.disabled = true;
  place.replaceChildren(el('p', { class: 'quiet' }, 'replaying…'));
  let shown;
  try {
    shown = replayed(await ask(`traces/${encodeURIComponent(wanted)}/replay`, { method: 'POST' }));
  } catch (problem) {
    shown = el('p', { class: 'bad' }, problem.message);
  }
  place.replaceChildren(shown);
  button.disabled = false;
}
