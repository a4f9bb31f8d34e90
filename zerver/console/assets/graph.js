// A pipeline as a picture: its steps from top to bottom, continuations below the step that asks for them, and a column
// for each slot, with who writes it and who reads it.

import { el, svg } from './dom.js';

const ROW = 28;
const INDENT = 22;
const LETTER = 7.3; // the width of a character at 12 px, in the fonts that are used
const SLOT = 26;
const SLANT = 0.82; // of a slot's name, in height

/** `ran`: the names of steps that ran, to tell them from those that did not. */
export function pipelineGraph(graph, ran = null) {
  const depths = graph.steps.map(() => 0);
  graph.steps.forEach((step, index) => { if (step.asker !== null) depths[index] = depths[step.asker] + 1; });
  const texts = graph.steps.map(told);
  const names = Math.max(120, ...graph.steps.map((step, index) =>
    26 + depths[index] * INDENT + (step.name.length + (texts[index] ? texts[index].length + 2 : 0)) * LETTER));
  const longest = Math.max(0, ...graph.slots.map((slot) => slot.length));
  const head = graph.slots.length ? Math.max(34, longest * LETTER * SLANT + 14) : 8;
  const width = names + 16 + graph.slots.length * SLOT + (graph.slots.length ? longest * LETTER * 0.6 + 8 : 0);
  const height = head + graph.steps.length * ROW + 4;
  const x = (depth) => 12 + depth * INDENT;
  const y = (index) => head + index * ROW + ROW / 2;
  const column = (index) => names + 24 + index * SLOT;
  const picture = svg('svg', {
    class: 'graph', width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': words(graph),
  });

  graph.slots.forEach((slot, index) => {
    const uses = graph.steps.map((step, row) => (step.writes.includes(slot) || step.reads.includes(slot) ? row : -1)).filter((row) => row >= 0);
    picture.append(
      svg('text', { class: 'slot', transform: `translate(${column(index) + 3} ${head - 6}) rotate(-55)` }, slot),
      svg('line', { class: 'rule', x1: column(index), x2: column(index), y1: head, y2: height - 4 }),
      svg('line', { class: 'life', x1: column(index), x2: column(index), y1: y(uses[0]), y2: y(uses.at(-1)) }));
  });
  const trunk = graph.steps.map((step, index) => (step.asker === null ? index : -1)).filter((index) => index >= 0);
  trunk.slice(1).forEach((index, before) => {
    const stage = graph.steps.slice(trunk[before], index);
    const known = stage.some((step) => step.goes_on !== null);
    picture.append(svg('path', { class: known ? 'way' : 'way unknown', d: `M${x(0)} ${y(trunk[before]) + 5}V${y(index) - 6}` }));
  });
  graph.steps.forEach((step, index) => {
    if (step.asker !== null) {
      const from = x(depths[step.asker]) + 7;
      picture.append(svg('path', { class: 'way then', d: `M${from} ${y(step.asker) + 6}V${y(index) - 5}q0 5 5 5H${x(depths[index]) - 6}` }));
    }
  });
  graph.steps.forEach((step, index) => {
    const idle = ran !== null && !ran.has(step.name);
    picture.append(svg('g', { class: `step${idle ? ' idle' : ''}${step.again ? ' again' : ''}` },
      svg('title', {}, `${step.name}, ${step.where}`),
      svg(step.asker === null ? 'rect' : 'circle', step.asker === null
        ? { class: 'node', x: x(0) - 5, y: y(index) - 5, width: 10, height: 10, rx: 2 }
        : { class: 'node', cx: x(depths[index]), cy: y(index), r: 4.5 }),
      svg('text', { x: x(depths[index]) + 12, y: y(index) + 4 }, step.name,
        svg('tspan', { class: 'told', dx: 10 }, texts[index])),
      graph.slots.map((slot, place) => use(step, slot, column(place), y(index)))));
  });
  return el('div', { class: 'scrolled', tabindex: 0, role: 'group', 'aria-label': `Pipeline of ${graph.label}` }, picture);
}

function use(step, slot, cx, cy) {
  const [writes, reads] = [step.writes.includes(slot), step.reads.includes(slot)];
  if (!writes && !reads) return null;
  const how = writes && reads ? 'reads and writes' : writes ? 'writes' : 'reads';
  return svg('circle', { class: writes ? 'writes' : 'reads', cx, cy, r: 5 }, svg('title', {}, `${step.name} ${how} ${slot}`));
}

function told(step) {
  if (step.again) return 'as above';
  const parts = [];
  if (step.unknown) parts.push('then unknown');
  if (step.goes_on !== null) parts.push(step.goes_on ? `→ ${step.goes_on}` : '→ missing');
  if (step.ends) parts.push('ends');
  return parts.join(', ');
}

function words(graph) {
  return graph.steps.map((step) => {
    const slots = [step.reads.length ? `reads ${step.reads.join(', ')}` : '', step.writes.length ? `writes ${step.writes.join(', ')}` : ''];
    const after = step.asker === null ? `step ${step.position}` : `continues ${graph.steps[step.asker].name}`;
    return [`${step.name} (${after})`, ...slots, told(step)].filter(Boolean).join(', ');
  }).join('; ');
}

export function graphLegend() {
  const sign = (kind) => svg('svg', { class: 'graph sign', width: 12, height: 12 }, svg('circle', { class: kind, cx: 6, cy: 6, r: 5 }));
  return el('p', { class: 'legend', 'aria-hidden': 'true' },
    el('span', {}, sign('writes'), 'writes the slot'),
    el('span', {}, sign('reads'), 'reads it'),
    el('span', {}, '→ goes on with that step'));
}
