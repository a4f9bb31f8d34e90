// The list of kept requests. Only the lines that are in view are elements, however many there are: older pages are
// fetched by cursor as they are scrolled to, newer ones are asked for once a second.

import { ask, byId, clock, el, grouped, moment } from './dom.js';

const FILTERS = ['text', 'route', 'status', 'why', 'slower'];
const PAGE = 200;
const MOST = 10_000; // lines that are held while who looks is at the top, and new ones come
const BEYOND = 8; // lines above and below what is in view
const PERIOD = 1000; // milliseconds between two looks for new ones

const list = byId('list');
const rows = byId('rows');
const form = byId('filters');

const state = {
  query: new URLSearchParams(),
  traces: [],
  more: false,
  newest: 0,
  total: 0,
  active: null, // the seq of the line that keys move from
  live: true,
  loading: false,
  behind: false, // there are so many newer ones that they are only shown at the top
  problem: '',
  generation: 0, // of what was asked for: answers to what was asked before are late
};
const elements = new Map(); // by seq: the lines that are there now
let timer = 0;
let typing = 0;
let visible = false;
let height = 30;

/** Where this list is, with its filters. */
export const address = () => `#/requests${String(state.query) ? `?${state.query}` : ''}`;

/** The id of the request `step` lines further down, for who looks at one of them. */
export function neighbour(id, step) {
  const index = state.traces.findIndex((one) => one.id === id);
  return index < 0 ? null : (state.traces[index + step]?.id ?? null);
}

/** It is the one to go on from, once the list is back. */
export function choose(id) {
  state.active = state.traces.find((one) => one.id === id)?.seq ?? state.active;
}

export function enter(_, query, first) {
  visible = true;
  const wanted = cleaned(query);
  const same = String(wanted) === String(state.query);
  state.query = wanted;
  for (const name of FILTERS) {
    const field = form.elements[name];
    if (document.activeElement !== field) field.value = wanted.get(name) ?? '';
  }
  if (first) measure();
  if (!same || state.newest === 0) load();
  else if (first) {
    draw();
    reveal();
    look();
  }
  if (first) list.focus({ preventScroll: true });
}

export function leave() {
  visible = false;
  clearTimeout(timer);
}

export const keys = {
  j: () => move(1),
  k: () => move(-1),
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  Home: () => move(-Infinity),
  End: () => move(Infinity),
  Enter: () => open(),
  o: () => open(),
  l: () => byId('live').click(),
  Escape: () => { if (String(state.query)) byId('clear').click(); },
};

function cleaned(query) {
  const found = new URLSearchParams();
  for (const name of FILTERS) if (query.get(name)?.trim()) found.set(name, query.get(name).trim());
  return found;
}

// Asking

async function load() {
  const mine = ++state.generation;
  clearTimeout(timer);
  Object.assign(state, { loading: true, behind: false, problem: '' });
  tell();
  try {
    const page = await ask(`traces?${new URLSearchParams([...state.query, ['limit', PAGE]])}`);
    if (mine !== state.generation) return;
    Object.assign(state, { traces: page.traces, more: page.more, newest: page.newest, total: page.total ?? 0, problem: page.problem });
  } catch (problem) {
    if (mine !== state.generation) return;
    Object.assign(state, { traces: [], more: false, total: 0, problem: problem.message });
  }
  state.loading = false;
  list.scrollTop = 0;
  draw();
  later();
}

async function older() {
  if (state.loading || !state.more) return;
  const mine = state.generation;
  state.loading = true;
  const before = state.traces.at(-1).seq;
  try {
    const page = await ask(`traces?${new URLSearchParams([...state.query, ['limit', PAGE * 2], ['before', before]])}`);
    if (mine !== state.generation) return;
    state.traces.push(...page.traces);
    state.more = page.more;
  } catch {
    // The next scroll asks again.
  } finally {
    if (mine === state.generation) state.loading = false;
  }
  draw();
}

/** What came since. */
async function look() {
  clearTimeout(timer);
  if (!visible || !state.live || document.hidden) return;
  const mine = state.generation;
  try {
    const page = await ask(`traces?${new URLSearchParams([...state.query, ['limit', PAGE], ['after', state.newest]])}`);
    if (mine !== state.generation) return;
    if (page.more) {
      // More than anybody can follow: the newest, once who looks is there.
      if (list.scrollTop === 0) return void load();
      state.behind = true;
      tell();
      return void later();
    }
    if (page.newest < state.newest) return void load(); // it is another store
    state.problem = page.problem;
    if (page.newest > state.newest) state.newest = page.newest;
    if (page.traces.length) {
      const down = list.scrollTop;
      state.traces.unshift(...page.traces);
      state.total += page.traces.length;
      if (down === 0 && state.traces.length > MOST) {
        state.traces.length = MOST / 2;
        state.more = true;
      }
      draw();
      // Who has scrolled down looks at the same lines as before.
      if (down > 0) list.scrollTop = down + page.traces.length * height;
    } else tell();
  } catch (problem) {
    if (mine !== state.generation) return;
    state.problem = problem.message;
    tell();
  }
  later();
}

function later() {
  clearTimeout(timer);
  if (visible && state.live) timer = setTimeout(look, PERIOD);
}

// Drawing

function measure() {
  height = parseFloat(getComputedStyle(list).getPropertyValue('--line')) || 30;
}

function draw() {
  rows.style.height = `${state.traces.length * height}px`;
  list.setAttribute('aria-rowcount', state.total + 1);
  const first = Math.max(0, Math.floor(list.scrollTop / height) - BEYOND);
  const last = Math.min(state.traces.length, Math.ceil((list.scrollTop + list.clientHeight) / height) + BEYOND);
  const wanted = new Set();
  for (let index = first; index < last; index += 1) {
    const one = state.traces[index];
    wanted.add(one.seq);
    let line = elements.get(one.seq);
    if (!line) {
      line = drawn(one);
      elements.set(one.seq, line);
      rows.append(line);
    }
    line.style.top = `${index * height}px`;
    line.setAttribute('aria-rowindex', index + 2);
    mark(line, one.seq === state.active);
  }
  for (const [seq, line] of elements) {
    if (!wanted.has(seq)) {
      line.remove();
      elements.delete(seq);
    }
  }
  if (state.more && last >= state.traces.length - PAGE / 4) older();
  tell();
}

function drawn(one) {
  const cell = (kind, text, title) => el('span', { role: 'gridcell', class: `c-${kind}`, title }, text);
  const link = el('a', { href: `#/requests/${encodeURIComponent(one.id)}`, tabindex: -1 },
    el('b', {}, one.method), ` ${one.path}`);
  return el('div', { role: 'row', class: `line level-${one.level}`, id: `seq-${one.seq}`, onclick: (event) => picked(event, one) },
    cell('time', clock(one.started_ms, { millis: true }), moment(one.started_ms)),
    cell('status', one.status === null ? '—' : String(one.status), one.status === null ? 'it got no answer' : null),
    cell('took', one.took),
    el('span', { role: 'gridcell', class: `c-why why-${one.why}` }, one.why),
    el('span', { role: 'gridcell', class: 'c-path', title: `${one.method} ${one.path}` }, link),
    cell('route', one.route, one.route),
    cell('error', one.error),
    cell('id', one.id));
}

function picked(event, one) {
  state.active = one.seq;
  if (event.target.closest('a') || event.ctrlKey || event.metaKey || String(getSelection())) return;
  location.hash = `#/requests/${encodeURIComponent(one.id)}`;
}

function mark(line, active) {
  line.classList.toggle('active', active);
  line.setAttribute('aria-selected', active);
  if (active) list.setAttribute('aria-activedescendant', line.id);
}

function tell() {
  const filtered = String(state.query) !== '';
  // What is there stays readable; without any of it, the problem has the middle of the page.
  byId('count').textContent = state.problem
    ? (state.traces.length ? state.problem : '')
    : state.loading && !state.traces.length ? 'looking…' : `${grouped(state.total)} ${filtered ? 'match' : 'kept'}${state.behind ? ', and many newer ones: see the top' : ''}`;
  byId('clear').hidden = !filtered;
  const nothing = byId('nothing');
  const empty = filtered ? 'No kept request matches.' : 'No request has been kept yet.';
  nothing.textContent = state.traces.length || state.loading ? '' : state.problem || empty;
  nothing.hidden = !nothing.textContent;
}

// Moving

function move(step) {
  if (!state.traces.length) return;
  const now = state.traces.findIndex((one) => one.seq === state.active);
  const from = now < 0 && step > 0 ? -1 : Math.max(now, 0);
  const to = Math.max(0, Math.min(state.traces.length - 1, from + step));
  state.active = state.traces[to].seq;
  reveal();
  draw();
}

/** Scroll as far as is needed for the active line to be seen. */
function reveal() {
  const index = state.traces.findIndex((one) => one.seq === state.active);
  if (index < 0) return;
  const head = height;
  const top = index * height;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + height > list.scrollTop + list.clientHeight - head) list.scrollTop = top + height + head - list.clientHeight;
}

function open() {
  const one = state.traces.find((trace) => trace.seq === state.active) ?? state.traces[0];
  if (!one) return;
  state.active = one.seq;
  location.hash = `#/requests/${encodeURIComponent(one.id)}`;
}

// Listening

list.addEventListener('focus', () => {
  if (state.active === null && state.traces.length) {
    state.active = state.traces[0].seq;
    draw();
  }
});
list.addEventListener('scroll', () => requestAnimationFrame(() => {
  if (state.behind && list.scrollTop === 0) load();
  else draw();
}), { passive: true });
new ResizeObserver(() => { if (visible) { measure(); draw(); } }).observe(list);
document.addEventListener('visibilitychange', () => { if (!document.hidden && visible) look(); });

form.addEventListener('submit', (event) => event.preventDefault());
form.addEventListener('input', () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    const query = cleaned(new URLSearchParams(new FormData(form)));
    if (String(query) === String(state.query)) return;
    state.query = query;
    history.replaceState(null, '', address());
    load();
  }, 150);
});
form.elements.route.addEventListener('focus', async () => {
  try {
    const known = await ask('routes');
    byId('known-routes').replaceChildren(...known.map((one) => el('option', { value: one.route }, grouped(one.count))));
  } catch {
    // Any text can be typed.
  }
});
byId('clear').addEventListener('click', () => {
  form.reset();
  state.query = new URLSearchParams();
  history.replaceState(null, '', address());
  load();
  list.focus({ preventScroll: true });
});
byId('live').addEventListener('click', (event) => {
  state.live = !state.live;
  event.currentTarget.setAttribute('aria-pressed', state.live);
  look();
});
