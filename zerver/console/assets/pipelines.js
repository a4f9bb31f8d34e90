// The pipelines of the app: its routes, and the picture of each.

import { ask, byId, el } from './dom.js';
import { graphLegend, pipelineGraph } from './graph.js';

const section = byId('pipelines');
let asked = null;

/** The app's pipelines, asked for once until it fails. */
export function graphs() {
  asked ??= ask('graphs').then((found) => {
    if (found.problem) asked = null;
    return found;
  }, (problem) => {
    asked = null;
    return { routes: [], problem: problem.message };
  });
  return asked;
}

export const address = (label) => `#/pipelines/${encodeURIComponent(label)}`;

export const keys = {
  j: () => move(1),
  k: () => move(-1),
  Escape: () => { location.hash = '#/pipelines'; },
};

let labels = [];
let current = null;

export async function enter(label, _, first) {
  if (first) {
    asked = null; // the app may have been reloaded
    section.replaceChildren(el('p', { class: 'notice' }, 'looking…'));
    section.focus({ preventScroll: true });
  }
  const found = await graphs();
  labels = found.routes.map((one) => one.label);
  current = label;
  if (found.problem || !labels.length) {
    section.replaceChildren(el('p', { class: 'notice' }, found.problem || 'The app has no routes.'));
    return;
  }
  const wanted = label ? found.routes.filter((one) => one.label === label) : found.routes;
  section.replaceChildren(
    el('div', { class: 'split' },
      el('nav', { class: 'index', 'aria-label': 'Routes' },
        el('a', { href: '#/pipelines', 'aria-current': label ? null : 'true' }, `All ${labels.length}`),
        labels.map((one) => el('a', { href: address(one), 'aria-current': one === label ? 'true' : null }, one))),
      el('div', { class: 'pictures' },
        graphLegend(),
        wanted.map(pictured),
        wanted.length ? null : el('p', { class: 'notice' }, `The app has no route ${label}.`))));
}

function pictured(graph) {
  const deadline = graph.deadline === null ? null : el('span', { class: 'quiet' }, `deadline ${graph.deadline} s`);
  const kept = `#/requests?${new URLSearchParams({ route: graph.label })}`;
  return el('article', {},
    el('h2', {}, el('a', { href: address(graph.label) }, graph.label), deadline, el('a', { class: 'more', href: kept }, 'kept requests')),
    pipelineGraph(graph));
}

function move(step) {
  const now = labels.indexOf(current);
  const to = labels[Math.max(0, Math.min(labels.length - 1, now + step))];
  if (to !== undefined) location.hash = address(to);
}
