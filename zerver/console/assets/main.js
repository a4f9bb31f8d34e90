// The shell: which view is shown follows the part of the address after #, and so do its filters.

import { byId } from './dom.js';
import * as pipelines from './pipelines.js';
import * as processes from './processes.js';
import * as requests from './requests.js';
import * as trace from './trace.js';

const views = { requests, trace, pipelines, processes };
let shown = null;

/** '#/requests/ID' shows a trace; '#/requests?status=5xx' the list. */
function place() {
  const [path, query = ''] = location.hash.slice(2).split('?', 2);
  const [name, ...rest] = path.split('/');
  const argument = decoded(rest.join('/'));
  const view = name === 'requests' && argument ? 'trace' : views[name] ? name : 'requests';
  return { view, argument, query: new URLSearchParams(query) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // somebody has typed it
  }
}

function show() {
  if (location.hash && !location.hash.startsWith('#/')) return;
  const to = place();
  if (shown !== null && shown !== to.view) views[shown].leave?.();
  for (const name of Object.keys(views)) byId(name).hidden = name !== to.view;
  for (const link of document.querySelectorAll('nav a')) {
    const here = link.hash === `#/${to.view === 'trace' ? 'requests' : to.view}`;
    if (here) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  const first = shown !== to.view;
  shown = to.view;
  document.title = to.view === 'trace' ? `${to.argument} · Zerver` : `${to.view} · Zerver`;
  views[to.view].enter(to.argument, to.query, first);
}

function go(hash) {
  location.hash = hash;
}

const everywhere = {
  '1': () => go(requests.address()),
  '2': () => go('#/pipelines'),
  '3': () => go('#/processes'),
  '?': () => byId('help').showModal(),
  '/': () => {
    if (shown !== 'requests') go(requests.address());
    const field = byId('f-text');
    // The view may have to be shown first.
    requestAnimationFrame(() => requestAnimationFrame(() => { field.focus(); field.select(); }));
  },
};

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || byId('help').open) return;
  const field = event.target instanceof Element && event.target.closest('input, select, textarea');
  if (field) {
    if (event.key === 'Escape') byId('list').focus();
    return;
  }
  const pressed = views[shown].keys[event.key] ?? everywhere[event.key];
  // A link or button that has the focus is to be pressed by Enter.
  const own = event.key === 'Enter' && event.target instanceof Element && event.target.closest('a, button, summary');
  if (pressed && !own) {
    event.preventDefault();
    pressed();
  }
});

byId('help-button').addEventListener('click', () => byId('help').showModal());
addEventListener('hashchange', show);
trace.beside(requests);
show();
